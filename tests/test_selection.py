"""Which files the rules of compress mean."""

import pytest

from zipfs.errors import UsageError
from zipfs.selection import LEVELS, Selection

MATCHES = {
    "*.bin": ["a.bin", "sub/a.bin", "a.bin/inside", ".bin", "sub/new\nline.bin"],
    "/*.bin": ["a.bin", "a.bin/inside"],
    "sub/*.bin": ["sub/a.bin"],
    "sub/**": ["sub/a", "sub/deep/a"],
    "sub/**/a": ["sub/a", "sub/b/a", "sub/b/c/a"],
    "**/a": ["a", "x/a", "x/y/a"],
    "**": ["a", "x/y/a"],
    "cache": ["cache", "cache/a", "x/cache/y/a"],
    "cache/": ["cache/a", "x/cache/y/a"],
    "a?c": ["abc", "a.c", "a]c"],
    "a[b-d]": ["ab", "ad"],
    "a[!b-d]": ["ae", "a!"],
    "a[]]": ["a]"],
    "a[": ["a["],
    "a[^b]": ["a^", "ab"],
    "a.b+c": ["a.b+c"],
}
OTHERS = {
    "*.bin": ["a.binary", "a.bin2", "bin"],
    "/*.bin": ["sub/a.bin"],
    "sub/*.bin": ["a.bin", "x/sub/a.bin", "sub/deep/a.bin"],
    "sub/**": ["sub", "subway/a", "x/sub/a"],
    "sub/**/a": ["sub/ba", "a"],
    "**/a": ["ba", "x/ba"],
    "cache": ["cached", "my-cache/a"],
    "cache/": ["cache", "x/cache"],
    "a?c": ["a/c", "ac"],
    "a[b-d]": ["ae", "a", "a-"],
    "a[!b-d]": ["ab", "a/"],
    "a[": ["ab"],
    "a.b+c": ["aXb+c", "a.bbc"],
}


@pytest.mark.parametrize("glob", MATCHES)
def test_globs(glob):
    selection = Selection(include=[glob])
    assert [path for path in MATCHES[glob] if not selection.choice(path).is_selected] == []
    assert [path for path in OTHERS.get(glob, []) if selection.choice(path).is_selected] == []


def test_order_of_the_rules():
    selection = Selection(
        include=["*.bin", "x/**"],
        exclude=["secret"],
        level="fast",
        levels={"*.bin": "max", "x/*.bin": "default"},
        dtypes={"*": "F16", "*.bin": "BF16"},
    )
    assert selection.choice("a.bin") == (True, LEVELS["max"], "BF16")
    assert selection.choice("x/a.bin") == (True, LEVELS["default"], "BF16")
    assert selection.choice("x/text") == (True, LEVELS["fast"], "F16")
    assert not selection.choice("text").is_selected, "no --include matches"
    assert not selection.choice("secret/a.bin").is_selected, "--exclude is stronger"
    assert Selection().choice("anything") == (True, LEVELS["default"], None)


def test_smallest_saving():
    assert Selection().largest_worthwhile(1000) == 980
    assert Selection(min_saving=0).largest_worthwhile(1000) == 1000
    assert Selection(min_saving=12.5).largest_worthwhile(1000) == 875


@pytest.mark.parametrize(
    "rules",
    [
        {"level": "best"},
        {"levels": {"*": "best"}},
        {"dtypes": {"*": "bfloat16"}},
        {"min_saving": -1},
        {"min_saving": 101},
        {"include": [""]},
        {"exclude": ["a//b"]},
    ],
)
def test_rules_that_make_no_sense(rules):
    with pytest.raises(UsageError):
        Selection(**rules)
