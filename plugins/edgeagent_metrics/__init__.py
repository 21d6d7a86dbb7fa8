"""First-party plugin: metrics of the node and its containers, for Prometheus to scrape.

``node`` has the machine's metrics under node_exporter's names, ``containers`` those of pods under cAdvisor's;
``endpoint`` serves them together with all others that the core gathers. Nothing is counted between two
questions. May import ``edgeagent.api``, never the agent.
"""
