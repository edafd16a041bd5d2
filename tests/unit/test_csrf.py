"""A browser's request counts as a page's own, or as another site's."""

import pytest
from multidict import CIMultiDict

from chassis.csrf import refuse_foreign
from chassis.errors import ForbiddenError
from chassis.http.request import joined

HOST = "foo.example"
OWN = {
    "no browser": {},
    "the same origin": {"Origin": "https://foo.example"},
    "the default port in Host": {"Origin": "https://foo.example", "Host": "foo.example:443"},
    "the default port in Origin": {"Origin": "http://foo.example:80"},
    "another case": {"Origin": "https://foo.example", "Host": "FOO.Example"},
    "another port in both": {"Origin": "http://foo.example:8017", "Host": "foo.example:8017"},
    "an IPv6 address": {"Origin": "http://[::1]:8017", "Host": "[::1]:8017"},
    "a Host that a proxy has rewritten": {
        "Origin": "https://foo.example",
        "Host": "10.0.0.5:8017",
        "Sec-Fetch-Site": "same-origin",
    },
    "an address typed in by the user": {"Sec-Fetch-Site": "none"},
}
FOREIGN = {
    "another host": {"Origin": "https://evil.example"},
    "a host that begins alike": {"Origin": "https://foo.example.evil.example"},
    "another port": {"Origin": "https://foo.example:8443"},
    "the other scheme's port": {"Origin": "https://foo.example", "Host": "foo.example:80"},
    "an opaque origin": {"Origin": "null"},
    "no URL": {"Origin": "https://[foo"},
    "an empty origin": {"Origin": ""},
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "a subdomain": {"Sec-Fetch-Site": "same-site"},
    "another site with a right Origin": {"Sec-Fetch-Site": "cross-site", "Origin": "https://foo.example"},
    "an unknown site": {"Sec-Fetch-Site": "Same-Origin"},
}


def headers(case):
    return CIMultiDict({"Host": HOST, **case})


@pytest.mark.parametrize("case", OWN.values(), ids=OWN)
def test_a_form_of_the_service_itself_is_accepted_behind_a_proxy(case):
    refuse_foreign("POST", headers(case))


@pytest.mark.parametrize("case", FOREIGN.values(), ids=FOREIGN)
def test_a_request_for_another_sites_page_is_refused(case):
    with pytest.raises(ForbiddenError):
        refuse_foreign("POST", headers(case))


def test_one_foreign_value_among_several_is_refused():
    two = headers({"Origin": "https://foo.example"})
    two.add("Origin", "https://evil.example")
    with pytest.raises(ForbiddenError):
        refuse_foreign("DELETE", joined(two))


def test_safe_methods_are_never_refused():
    for method in ("GET", "HEAD", "OPTIONS"):
        refuse_foreign(method, headers(FOREIGN["another site"]))
