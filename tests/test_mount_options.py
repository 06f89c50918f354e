"""What options of a mount come to: the profile's, words after -o, and what is named."""

from pathlib import Path

import pytest

from zipfs.errors import UsageError
from zipfs.mount_options import DEFAULT_PROFILE, PROFILES, choose, parse_options


def test_words():
    assert parse_options("ro,allow_other,readahead_kb=4096,nodev") == ({"allow_other": True}, {"readahead_kb": 4096})
    assert parse_options(["noexec", "", "nosuid"]) == ({"noexec": True}, {})
    words = "profile=random,cache_size=1G,ahead_size=64M,jobs=3,driver=native,log_file=/a=b,drop_source_cache,idle_s=9"
    assert parse_options(words)[1] == {
        "profile": "random",
        "cache_size": 1 << 30,
        "ahead_size": 64 << 20,
        "jobs": 3,
        "driver": "native",
        "log_file": "/a=b",
        "idle_s": 9,
        "drop_source_cache": True,
    }


@pytest.mark.parametrize(
    "word",
    ["rw", "allow_others", "readahead_kb=many", "readahead_kb", "readahead_kb=", "direct_io", "allow_other=1", "dev"]
    + ["suid", "cache_size=big", "cache_size=-1", "flags=1", "profile", "jobs=1.5"],
)
def test_unknown_words(word):
    with pytest.raises(UsageError, match=word):
        parse_options(f"ro,{word}")


def test_profiles():
    assert len(set(PROFILES.values())) == len(PROFILES)
    for name, profile in PROFILES.items():
        chosen = choose(profile=name)
        assert {field: getattr(chosen, field) for field in profile._fields} == profile._asdict()
        assert 0 <= profile.ahead_size <= profile.cache_size
    assert choose() == choose(profile=DEFAULT_PROFILE) == choose(options=f"profile={DEFAULT_PROFILE}")
    assert PROFILES["low-memory"].cache_size < PROFILES["serving"].cache_size


def test_what_is_named_wins():
    assert choose(profile="random", options="profile=serving,jobs=2").profile == "random"
    chosen = choose(options="cache_size=1M,readahead_kb=7,allow_other", cache_size=2 << 20, jobs=None)
    assert (chosen.cache_size, chosen.readahead_kb, chosen.jobs, chosen.flags) == (2 << 20, 7, 0, {"allow_other": True})
    assert choose(options="profile=low-memory,cache_size=1M").readahead_kb == PROFILES["low-memory"].readahead_kb
    assert choose(profile="low-memory", drop_source_cache=False).drop_source_cache is False


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"jobs": 0}, "jobs 0: must be"),
        ({"jobs": 1025}, "jobs 1025: must be"),
        ({"cache_size": -1}, "cache size -1: must be"),
        ({"cache_size": 1 << 63}, "must be"),
        ({"ahead_size": -1}, "ahead size -1: must be"),
        ({"options": "readahead_kb=-1"}, "readahead kb -1: must be"),
        ({"idle_s": 0}, "idle s 0: must be 1 or more"),
        ({"driver": "other"}, "driver 'other': unknown; known are native, mfusepy, fusepy"),
        ({"options": "profile=fast"}, "profile 'fast': unknown; known are serving, random, low-memory"),
    ],
)
def test_what_cannot_be(given, message):
    with pytest.raises(UsageError, match=message):
        choose(**given)


def test_a_misspelt_name_is_a_mistake():
    for name in ("cache", "flags"):
        with pytest.raises(TypeError, match=name):
            choose(**{name: 1})


def test_the_documentation_has_the_profiles_as_they_are():
    text = (Path(__file__).parents[1] / "docs" / "mounting.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    told = {row[0].split("`")[1]: row[2:6] for row in rows if row[0].split("`")[1] in PROFILES}
    assert told == {
        name: [
            *(f"{profile.readahead_kb} KiB", f"{profile.cache_size >> 20} MiB", f"{profile.ahead_size >> 20} MiB"),
            "yes" if profile.drop_source_cache else "no",
        ]
        for name, profile in PROFILES.items()
    }
