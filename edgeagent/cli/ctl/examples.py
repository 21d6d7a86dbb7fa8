"""The examples in ``edgectl``'s help, by command."""

EXAMPLES = {
    "edgectl": """\
examples:
  edgectl apply -f hello.yaml               create or change what the file holds
  edgectl get pods -A                       what runs, in every namespace
  edgectl describe pod hello                all about it, and what happened to it
  edgectl logs hello -f --tail 20           what it printed, and what it prints
  edgectl exec -it hello -- sh              a shell in it
  edgectl port-forward hello 8080:80        its port 80 as this machine's 8080
  edgectl top pod -A --sort-by cpu          what uses the most
  edgectl events --types Warning            what went wrong lately""",
    "apply": """\
examples:
  edgectl apply -f hello.yaml               create or change what the file holds
  edgectl apply -f site/ -R                 every .yaml, .yml and .json below a directory
  cat hello.yaml | edgectl apply -f -       from standard input
  edgectl apply -f hello.yaml --dry-run=client   check the file, without asking the hub

All objects are taken, or none. A Secret as `edgectl get` prints it has marks in place of its values, and is
refused: apply the manifest that it was made with.""",
    "get": """\
examples:
  edgectl get pods                          the pods of the default namespace
  edgectl get po,cm -n shop -o wide         several kinds, more columns
  edgectl get pod hello -o yaml             one object, whole
  edgectl get pods -A -l app=web --watch    keep printing changes, until ^C
  edgectl get secret login -o yaml          its keys; a mark in place of each value
  edgectl get events --for pod/hello -w     what happens to a pod

Values of Secrets are never shown, and do not leave the hub but sealed for a node. In their place stands
"<redacted: N bytes>", with -o yaml and -o json in base64, as all data of a Secret.""",
    "describe": """\
examples:
  edgectl describe pod hello
  edgectl describe node/gateway-7

Of a Secret it tells the keys, and how long their values are.""",
    "delete": """\
examples:
  edgectl delete pod hello                  and wait until it is gone
  edgectl delete -f hello.yaml --wait=false
  edgectl delete pods -l app=web
  edgectl delete pod hello --force          forget it, though its node cannot confirm""",
    "events": """\
examples:
  edgectl events                            what happened in the default namespace, the newest last
  edgectl events --for pod/hello            to one object
  edgectl events -A --types Warning -w      what goes wrong anywhere, as it happens

"5m (x3 over 2h)" happened three times in two hours, and five minutes ago the last time. The hub keeps events
for a week.""",
    "logs": """\
examples:
  edgectl logs hello --tail 20
  edgectl logs -f hello --since 10m         of the last ten minutes, and on until ^C
  edgectl logs hello -c web --previous      of the run before this one
  edgectl logs -f hello --all-containers --prefix
  edgectl logs -f -l app=shop --prefix      of several pods

With -f it ends with the container. A short disconnection costs nothing but time; after a minute it is an
error.""",
    "exec": """\
examples:
  edgectl exec hello -- ls -l /data
  edgectl exec -it hello -c web -- sh       a shell, at this terminal
  edgectl exec -i hello -- sh -c 'cat > /data/x' < x
  edgectl exec hello -- tar c /data > data.tar

The command's exit code is that of edgectl. What runs and what it says is sealed between this program and the
node; who ran something in which pod is in the audit log. Without a terminal, ^C ends edgectl with 130.""",
    "port-forward": """\
examples:
  edgectl port-forward hello 8080:80        localhost:8080 leads to port 80 of the pod
  edgectl port-forward hello 5432 :80       the same port here; any that is free
  edgectl port-forward hello 8080:http      a port by its name
  edgectl port-forward service/shop 8080:80 --address 0.0.0.0

Of TCP. It reaches what the pod itself reaches at its localhost, and ends with the pod.""",
    "top": """\
examples:
  edgectl top node                          each node, of what it can give
  edgectl top pod --sort-by memory
  edgectl top pod -A -l app=web --containers

Each node is asked itself, and measures for a second. CPU in thousandths of a core; memory is the working set,
what cannot be taken back without harm.""",
    "network": """\
examples:
  edgectl network gw-7                      its Services, their endpoints, and how often they were used
  edgectl network gw-7 drops                what network policies dropped there lately
  edgectl network gw-7 firewall             its host's firewall, and how much that dropped
  edgectl network gw-7 trace default/web default/db:5432
  edgectl network gw-7 trace --protocol UDP default/web [fd43::a]:53

The node is asked itself, and so must be connected.""",
    "audit": """\
examples:
  edgectl audit gw-7                        what operators had the node do, and what it refused
  edgectl audit --tail 20 -o json           what they had the hub do: changes, calls to nodes, refusals

The exit code is 1 where rows of the log were left out or changed.""",
    "reboot": """\
examples:
  edgectl reboot gw-7                       for admins; the node notes who asked for it""",
    "completion": """\
examples:
  source <(edgectl completion bash)
  edgectl completion fish > ~/.config/fish/completions/edgectl.fish""",
}
