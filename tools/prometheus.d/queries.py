"""Prints what a Grafana dashboard asks Prometheus: a panel's title and an expression a line, tabs between. Fails on a panel that
nobody could read: without title, unit, legend, or a word on what it shows."""

import json
import sys

VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}


def main(path):
    with open(path, encoding="utf-8") as file:
        dashboard = json.load(file)
    taken, ids = {}, set()
    for panel in dashboard["panels"]:
        assert panel["id"] not in ids, f"two panels have the id {panel['id']}"
        ids.add(panel["id"])
        place = panel["gridPos"]
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
            assert cell not in taken and cell[0] < 24, f"{panel['title']} lies on {taken.get(cell, 'the edge')}"
            taken[cell] = panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"], f"{panel} says too little"
        for target in panel["targets"]:
            assert target["legendFormat"], f"{panel['title']} has a line without a name"
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            assert "$" not in query, f"{panel['title']} uses a variable that is not known here: {query}"
            print(panel["title"], query, sep="\t")


main(sys.argv[1])
