"""The plugin host: finds plugins, checks them, runs their code in lanes and keeps their health.

May not hold: anything a plugin is for (pods, networks, secrets), any plugin's name, or a wait that is not
bounded by a deadline. Plugin code runs in a lane, never on the loop thread, save for the import and the
hooks ``edgeagent_plugin_info`` and ``edgeagent_config_schema``, which are called once, at load.

A lane's child imports this package too: nothing may be imported here, and by the modules that the child uses
(``lane_worker``, ``frames``, ``target``, ``contract``, ``faults``) neither asyncio nor more of the agent.
"""
