"""The catalog's page: complete, safe, readable by eye, keyboard and screen reader."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from orchestration.declarations import in_words
from orchestration.feature_store.discovery import (
    CheckResult,
    Facts,
    FeatureFacts,
    ServiceFacts,
    ViewFacts,
    content_security_policy,
    drawing,
    render,
)
from orchestration.feature_store.discovery.facts import KeyFacts, Parent
from orchestration.feature_store.discovery.profiles import Bar, FeatureProfile

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
EVIL = '<script>alert("x")</script>&\'"'
NUMBERS = FeatureProfile("numbers", 0.25, 40, -3.5, 7.0, 12_000.0, (Bar("a to b", 0.75), Bar("b to c", 0.25)))
TEXTS = FeatureProfile("categories", 0.0, 2, bars=(Bar(EVIL, 0.9), Bar("other", 0.1)))
HIDDEN = FeatureProfile("hidden", 0.5)


def feature(view, name, profile, **more):
    facts = FeatureFacts(name, f"{view}:{name}", "double", f"The {name}.", "internal", (), profile)
    return replace(facts, **more)


def view(name, *features, **more):
    facts = ViewFacts(
        name=name, description=f"About {name}.", owner="team:shop", entity=(KeyFacts("buyer", "bigint", "Who."),),
        timestamp="known_at", ttl="6 hours", online=True, schema_hash="0123456789abcdef",
        declared_in=f"models/features/{name}.yml", url=f"http://127.0.0.1:3000/assets/features/{name}",
        rows=12_345, entities=77, newest=NOW, age_seconds=60.0, freshness="fresh", features=features,
        upstream=(Parent("staged", "stg_orders", "Orders.", "http://127.0.0.1:3000/assets/staged/stg_orders", True),),
        used_by=("payments",),
        checks=(CheckResult("is_fine", "validity", False, True, 1.0, NOW),
                CheckResult("is_odd", "accuracy", True, False, 2.5, NOW)),
    )  # fmt: skip
    return replace(facts, **more)


SERVICE = ServiceFacts("payments", "ml", "Payments.", "team:shop", ("orders:total",), ("amount",), ("rate",),
                       ("orders",))  # fmt: skip
FACTS = Facts(
    NOW, "http://127.0.0.1:3000",
    (
        view("orders", feature("orders", "total", NUMBERS, used_by=("payments",)), feature("orders", "kind", TEXTS)),
        view("buyers", feature("buyers", "name", HIDDEN, classification="personal", description=EVIL),
             description=EVIL, owner="team:people", used_by=(), freshness="overdue", checks=()),
        view("empty", feature("empty", "nothing", None), rows=None, entities=None, newest=None, age_seconds=None,
             freshness="unknown"),
    ),
    (SERVICE,),
)  # fmt: skip


class Reader(HTMLParser):
    """What stands in a page, as a browser takes it apart."""

    VOID = frozenset({"meta", "link", "input", "br", "wbr"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text, self.texts = [], [], "", {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), list(self.open)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), list(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs, _ in self.tags if name == tag]


PAGE = Reader(render(FACTS))


def test_every_feature_stands_there_with_all_that_is_known_of_it():
    ids = {attrs.get("id") for attrs in PAGE.all("tr")}
    assert ids >= {"orders:total", "orders:kind", "buyers:name", "empty:nothing"}
    text = " ".join(PAGE.text.split())
    for words in (
        "4 features in 3 views", "The total.", "6 hours", "team:shop", "12,345", "77", "25%",
        "\N{MINUS SIGN}3.5 to 12,000, median 7", "Used by payments", "1 passed, 1 warned", "staged/stg_orders: Orders.",
        "1 minute old", "01234567", "models/features/orders.yml", "nothing stored yet", "overdue", "personal",
        "is_odd warned 2.5",
    ):  # fmt: skip
        assert words in text, words
    links = {attrs.get("href") for attrs in PAGE.all("a")}
    assert "http://127.0.0.1:3000/assets/features/orders" in links


def test_nothing_that_is_declared_becomes_markup():
    assert len(PAGE.all("script")) == 1
    assert "alert" not in re.sub(r"&lt;script&gt;alert\(", "", render(FACTS))
    assert PAGE.open == []


def test_the_page_loads_nothing_and_its_policy_allows_its_own_script_and_style_only():
    assert [a for tag in ("script", "img", "iframe") for a in PAGE.all(tag) if "src" in a] == []
    (icon,) = PAGE.all("link")
    assert icon["href"].startswith("data:")
    policy = content_security_policy()
    assert policy.startswith("default-src 'none'")
    assert re.fullmatch(r"'sha256-\S{44}'", policy.split("script-src ")[1].split(";")[0])
    assert not [
        attrs for _, attrs, _ in PAGE.tags if any(name.startswith("on") or name == "style" for name in attrs)
    ]


def test_it_can_be_read_without_eyes_and_used_without_a_mouse():
    assert PAGE.all("html")[0]["lang"] == "en"
    assert len(PAGE.all("h1")) == len(PAGE.all("main")) == 1
    for tag in ("input", "select"):
        assert all("label" in inside for name, _, inside in PAGE.tags if name == tag)
    tables = len(PAGE.all("table")) - sum(
        "details" in inside for name, _, inside in PAGE.tags if name == "table"
    )
    assert len(PAGE.all("caption")) == tables
    assert all("scope" in attrs for attrs in PAGE.all("th"))
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in PAGE.all("svg"))
    assert PAGE.all("output")[0]["aria-live"] == "polite"
    ids = [attrs["id"] for _, attrs, _ in PAGE.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in PAGE.all("a") if a.get("href", "").startswith("#")}
    assert targets <= set(ids)
    assert "tabindex" not in {name for _, attrs, _ in PAGE.tags for name in attrs}


def luminance(colour):
    def linear(part):
        part /= 255
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def contrast(one, other):
    """WCAG 2.2, contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(theme):
    colours = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", render(FACTS), re.DOTALL)
    ][theme]
    for behind in ("paper", "panel"):
        for text in ("ink", "soft", "accent", "good", "warn", "bad"):
            assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
        assert contrast(colours["bar"], colours[behind]) >= 3, behind


def test_a_caller_sees_nothing_of_views_that_are_closed_to_it():
    seen = FACTS.only(frozenset({"buyers", "empty"}))
    page = Reader(render(seen)).text
    assert [v.name for v in seen.views] == ["buyers", "empty"]
    assert seen.services == ()
    assert "orders:total" not in page
    assert "payments" not in page


@pytest.mark.parametrize(("value", "shown"), [
    (None, "\N{EN DASH}"), (0, "0"), (7.0, "7"), (1206, "1206"), (12_060, "12,060"), (-58.428, "\N{MINUS SIGN}58.43"), (0.00421, "0.0042"),
    (3_594_286, "3.59 million"), (0.5, "0.5"), (1e300, "1e+300"), (123.4, "123.4"),
])  # fmt: skip
def test_numbers_are_short(value, shown):
    assert drawing.number(value) == shown


@pytest.mark.parametrize(("part", "shown"), [
    (0, "0%"), (1, "100%"), (0.00001, "< 0.1%"), (0.99999, "> 99.9%"), (0.0213, "2.1%"), (0.5, "50%"), (0.95, "95.0%"),
])  # fmt: skip
def test_a_share_never_looks_like_none_or_all_where_it_is_not(part, shown):
    assert drawing.share(part) == shown


@pytest.mark.parametrize(("span", "words"), [
    (timedelta(days=7), "7 days"), (timedelta(hours=24), "1 day"), (timedelta(hours=6), "6 hours"),
    (timedelta(minutes=90), "90 minutes"), (timedelta(hours=29), "29 hours"), (timedelta(0), "0 seconds"),
])  # fmt: skip
def test_a_length_of_time_is_in_its_largest_whole_unit(span, words):
    assert in_words(span) == words
