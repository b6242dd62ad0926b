"""Imports a bundle into a running Superset as its own page does, opens the dashboard in Chromium, and holds every chart to
what PostgreSQL says. See tools/superset.
"""

import argparse
import datetime
import io
import json
import os
import pathlib
import re
import sys
import time
import urllib.parse
import zipfile

import psycopg2
import yaml
from PIL import Image
from playwright.sync_api import sync_playwright

PATIENCE_SECONDS = 240
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]
MAX_PICTURE_BYTES = 200_000
ZONE = "America/Sao_Paulo"
DESKTOP = {"width": 1280, "height": 2400}
PHONE = {"width": 412, "height": 915}


class Wrong(Exception):
    pass


def packed(folder, uri):
    """The bundle as it would be zipped by hand, led to another database."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        for path in sorted(folder.rglob("*.yaml")):
            text = path.read_text()
            if path.parent.name == "databases":
                text, changed = re.subn(r"(?m)^sqlalchemy_uri: .*$", f"sqlalchemy_uri: {uri}", text)
                if changed != 1:
                    raise Wrong(f"{path} names no database")
            bundle.writestr(f"{folder.name}/{path.relative_to(folder)}", text)
    return out.getvalue()


def titles(folder):
    charts = [yaml.safe_load(path.read_text()) for path in (folder / "charts").glob("*.yaml")]
    placed = {
        part["meta"]["uuid"]
        for part in yaml.safe_load((folder / "dashboards" / "leads.yaml").read_text())["position"].values()
        if isinstance(part, dict) and part["type"] == "CHART"
    }
    if placed != {chart["uuid"] for chart in charts}:
        raise Wrong("the dashboard does not show every chart of the bundle once")
    return {chart["slice_name"] for chart in charts}


def hold_datasets(folder, uri):
    """What datasets name is what their statements have, also what no chart uses; asked as the reader."""
    with psycopg2.connect(uri) as connection, connection.cursor() as cursor:
        for path in sorted((folder / "datasets").rglob("*.yaml")):
            dataset = yaml.safe_load(path.read_text())
            cursor.execute(f"SELECT * FROM ({dataset['sql']}) AS asked LIMIT 0")
            found = [column.name for column in cursor.description]
            named = [column["column_name"] for column in dataset["columns"]]
            if found != named:
                raise Wrong(f"{path} names the columns {named}, but its statement has {found}")
            measures = ", ".join(metric["expression"] for metric in dataset["metrics"])
            cursor.execute(f"SELECT {measures} FROM ({dataset['sql']}) AS asked")
            if None in cursor.fetchone():
                raise Wrong(f"{path} measures nothing by one of: {measures}")


class Dashboard:
    """The page, and what its charts were answered."""

    def __init__(self, browser, superset, viewport, **more):
        context = browser.new_context(viewport=viewport, locale="pt-BR", timezone_id=ZONE, **more)
        # Nothing outside of this machine is asked for.
        context.route(lambda url: urllib.parse.urlsplit(url).hostname != "127.0.0.1", lambda route: route.abort())
        self.superset, self.page = superset, context.new_page()
        self.page.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.answers, self.failed = {}, []
        self.names = {}
        self.page.on("response", self.heard)

    def on(self, viewport):
        """The same login on another screen."""
        context = self.page.context
        return Dashboard(context.browser, self.superset, viewport, storage_state=context.storage_state())

    def log_in(self):
        self.page.goto(f"{self.superset}/login/")
        self.page.fill("input#username", "admin")
        self.page.fill("input#password", os.environ["SUPERSET_PASSWORD"])
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "/login" not in url)

    def ask(self, path):
        answer = self.page.request.get(f"{self.superset}/api/v1/{path}")
        if not answer.ok:
            raise Wrong(f"{path}: {answer.status} {answer.text()}")
        return answer.json()

    def import_bundle(self, bundle, passwords):
        token = self.ask("security/csrf_token/")["result"]
        answer = self.page.request.post(
            f"{self.superset}/api/v1/dashboard/import/",
            headers={"X-CSRFToken": token, "Referer": self.superset, "Accept": "application/json"},
            multipart={
                "formData": {"name": "leads.zip", "mimeType": "application/zip", "buffer": bundle},
                "passwords": json.dumps(passwords),
                "overwrite": "true",
            },
        )
        return answer.status, answer.text()

    def heard(self, response):
        if "/api/v1/chart/data" not in response.url:
            return
        try:
            form = json.loads(response.request.post_data)["form_data"]
            title = self.names.get(form.get("slice_id"))
            if title is None:
                return  # what a filter offers
            if not response.ok:
                self.failed.append(f"{title}: {response.status} {response.text()[:600]}")
                return
            for result in response.json()["result"]:
                if result.get("error"):
                    self.failed.append(f"{title}: {result['error']}")
                elif not result["data"]:
                    self.failed.append(f"{title}: no rows")
                else:
                    self.answers[title] = result["data"]
        except Exception as error:  # Playwright would only log what its listener raises.
            self.failed.append(f"an answer that could not be read: {error!r}")

    def open(self, wanted, view=""):
        self.names = {chart["id"]: chart["slice_name"] for chart in self.ask("chart/?q=(page_size:100)")["result"]}
        # Superset's parser of time ranges fails where several threads are its first users.
        self.ask("time_range/?q='Last%20week'")
        self.page.goto(f"{self.superset}/superset/dashboard/leads/{view}")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.answers.keys() | self.said() != wanted:
            if time.monotonic() > deadline:
                raise Wrong(f"not answered: {sorted(wanted - self.answers.keys())}; {self.failed}")
            self.page.wait_for_timeout(200)
        self.page.wait_for_function("() => !document.querySelector('[data-test=\"loading-indicator\"], .loading')")
        shown = self.page.locator("[role=alert], .ant-alert-error").all_inner_texts()
        if self.failed or shown:
            raise Wrong("\n".join(self.failed + shown))

    def said(self):
        return {failure.split(":")[0] for failure in self.failed}

    def picture(self, path, top=None, bottom=None):
        """What the page shows, from the heading `top` to before the heading `bottom`."""
        view = self.page.viewport_size
        last = self.page.locator(".dashboard-component-chart-holder").last.bounding_box()
        edge = {"top": 0, "bottom": min(view["height"], last["y"] + last["height"] + 16)}
        for name, heading in (("top", top), ("bottom", bottom)):
            if heading:
                edge[name] = self.page.locator(".dashboard-component-header", has_text=heading).bounding_box()["y"] - 12
        clip = {"x": 0, "y": edge["top"], "width": view["width"], "height": edge["bottom"] - edge["top"]}
        shot = Image.open(io.BytesIO(self.page.screenshot(animations="disabled", clip=clip)))
        shot.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size > MAX_PICTURE_BYTES:
            raise Wrong(f"{path} has {path.stat().st_size} bytes")


def compare(answers, postgres):
    """Counts the rows of the tables themselves, apart from the datasets and their connection."""
    with psycopg2.connect(postgres) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT set_config('timezone', %s, false)", [ZONE])

        def hold(what, shown, sql):
            cursor.execute(sql)
            truth = {label: count for label, count in cursor.fetchall() if count}
            if shown != truth:
                raise Wrong(f"{what}: shown are {shown}, but PostgreSQL counts {truth}")
            print(f"{what}: as PostgreSQL counts {len(truth)} and {sum(truth.values())}")

        def labelled(title, label, count):
            return {row[label]: row[count] for row in answers[title]}

        def by_day(title, column, table, at):
            shown = {}
            for row in answers[title]:
                day = datetime.datetime.fromtimestamp(row[column] / 1000, datetime.timezone.utc).date()
                shown[day] = sum(count or 0 for name, count in row.items() if name != column)
            shown = {day: count for day, count in shown.items() if count}
            hold(title, shown, f"SELECT {at}::date, count(*) FROM {table} WHERE {at} >= '{min(shown)}' GROUP BY 1")

        by_day("Leads por dia, por status", "criado_em", "leads", "created_at")
        by_day("Conversas por dia, por interesse", "iniciado_em", "chat_sessions", "started_at")
        since = "created_at >= (now() AT TIME ZONE 'UTC')::date - 90"
        scores = labelled("Score dos leads", "faixa", "leads")
        hold(
            "Score dos leads",
            {"all": sum(scores.values()), "none": scores.get("(sem score)", 0),
             "qualified": sum(count for band, count in scores.items() if band >= "50"),
             "Qualificados": answers["Qualificados"][0]["qualificados"]},
            f"""SELECT 'all', count(*) FROM leads WHERE {since}
                UNION ALL SELECT 'none', count(*) FROM leads WHERE {since} AND score_qualificacao IS NULL
                UNION ALL SELECT unnest(ARRAY['qualified', 'Qualificados']), count(*)
                          FROM leads WHERE {since} AND score_qualificacao >= 50""",
        )
        funnel = labelled("Funil", "etapa", "leads")
        hold(
            "Funil",
            {"all": max(funnel.values()), "last": min(funnel.values())},
            f"""SELECT 'all', count(*) FROM leads WHERE {since}
                UNION ALL SELECT 'last', count(*) FROM leads WHERE {since} AND status_lead = 'convertido'""",
        )
        for title, column, dataset_column in (("Leads por origem", "origem", "origem"), ("Leads por campanha", "utm_campaign", "campanha")):
            shown = {label: count for label, count in labelled(title, dataset_column, "leads").items() if label[0] != "("}
            hold(title, shown, f"SELECT {column}, count(*) FROM leads WHERE {since} AND {column} <> '' GROUP BY 1")
        hold(
            "O que mais se pergunta",
            labelled("O que mais se pergunta", "pergunta", "vezes"),
            f"""SELECT unnest(perguntas_feitas), count(*) FROM chat_sessions
                WHERE {since.replace('created_at', 'started_at')} GROUP BY 1 ORDER BY 2 DESC LIMIT 15""",
        )
    zones = {row["fuso"] for row in answers["Atualidade dos dados"]}
    if zones != {ZONE}:
        raise Wrong(f"the charts count days in {zones}")


def take_pictures(desktop, wanted, folder):
    folder.mkdir(exist_ok=True)
    desktop.picture(folder / "superset-leads.png", bottom="Conversas")
    desktop.picture(folder / "superset-chats.png", top="Conversas")
    phone = desktop.on(PHONE)
    phone.open(wanted, "?standalone=2")
    phone.picture(folder / "superset-phone.png")


def main():
    parser = argparse.ArgumentParser()
    for name in ("superset", "bundle", "postgres", "logins", "run", "browser", "pictures"):
        parser.add_argument(f"--{name}", required=name != "pictures")
    given = parser.parse_args()
    folder, run = pathlib.Path(given.bundle), pathlib.Path(given.run)
    place = urllib.parse.urlsplit(given.postgres)
    database = f"{place.hostname}:{place.port}{place.path}"
    reader = json.loads(pathlib.Path(given.logins).read_text())[database]
    bundle = packed(folder, f"postgresql+psycopg2://{reader['login']}:XXXXXXXXXX@{database}")
    wanted = titles(folder)
    hold_datasets(folder, f"postgresql://{reader['login']}:{reader['password']}@{database}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.browser, args=CHROMIUM)
        desktop = Dashboard(browser, given.superset, DESKTOP)
        try:
            desktop.log_in()
            status, text = desktop.import_bundle(bundle, {})
            if status != 422 or "password" not in text:
                raise Wrong(f"without a password the import answered {status} {text}")
            status, text = desktop.import_bundle(bundle, {"databases/sluice.yaml": reader["password"]})
            if status != 200:
                raise Wrong(f"the import answered {status} {text}")
            desktop.open(wanted)
            compare(desktop.answers, given.postgres)
            take_pictures(desktop, wanted, pathlib.Path(given.pictures or run))
        except Exception:
            desktop.page.screenshot(path=run / "last-seen.png")
            raise
        browser.close()


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"error: {wrong}")
