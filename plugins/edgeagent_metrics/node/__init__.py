"""The machine's metrics, each module one of node_exporter's collectors or a few that belong together.

Names, types, help and labels are node_exporter's, so that its dashboards and rules go on working. May not
hold: anything but reading the kernel's files, and what is on the page.
"""
