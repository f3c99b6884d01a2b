"""``python -m convjax.models``: the table, one network, and what it says to wrong words."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from convjax.models import NETWORKS, PUBLISHED
from convjax.models.__main__ import main

ROOT = Path(__file__).parents[2]


def last_line(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "parameters", "macs"),
    [
        ("nin groups2a=4 groups3a=2", 455_498, 123_396_096),
        ("nin classes=100", 984_356, 223_592_448),
        ("alexnet groups=2", 60_965_224, 724_406_816),
        ("mobilenet_v1 width=0.5 full_conv=false resolution=224", 1_331_592, 149_497_088),
        ("shufflenet_v1 groups=3 width=.5 classifier_bias=false", 717_324, 37_589_856),
        ("context channels=5 large=true", 15_422 * 25 + 97 * 5, 15_422 * 25 * 64**2),
        (
            "resnet50 groups=16,8,4,2 stride_in_3x3=false stem_bias=true",
            18_691_048 + 53_120,
            2_434_580_480,
        ),
    ],
)
def test_one_network(capsys, words, parameters, macs):
    assert last_line(capsys, *words.split()) == {"parameters": parameters, "macs": macs}


def test_a_convention(capsys):
    assert last_line(capsys, "nin", "--convention", "deep_roots") == {
        "parameters": 966_986,
        "macs": 222_487_946,
    }


def test_layer_by_layer(capsys):
    assert main(["nin"]) == 0
    text = capsys.readouterr().out
    assert "layers/3" in text and "460,800" in text  # the weights of 2a
    assert "117,964,800" in text  # its MACs
    assert text.rstrip().endswith("966,986 parameters, 222,486,528 MACs")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lenet", "no network is named 'lenet': choose from nin, alexnet, .*, autoencoder"),
        ("nin groups=2", "nin: `key` .='groups'. must be one of groups2a, groups3a, .*resolution"),
        ("nin groups2a", "nin: `option` .='groups2a'. must be key=value. Keys: groups2a"),
        ("nin groups2a=two", "nin: `groups2a` .='two'. must be an integer"),
        ("nin groups2a=0", "nin: `groups2a` .=0. must be at least 1"),
        ("nin groups2a=5", "`groups2a` .=5. must divide .*layer_1c.*These do: 1, 2, 3, 4, 6, 8"),
        ("nin features=1,2", "`features` .*must have 8 entries, not 2"),
        ("alexnet resolution=40", "`resolution` .=40. must be at least 67"),
        ("alexnet response_norm=yes", "`response_norm` .='yes'. must be true or false"),
        ("mobilenet_v1 width=wide", "`width` .='wide'. must be a number"),
        ("mobilenet_v1 width=-1", "`width` .=-1.0. must be a number above 0"),
        ("mobilenet_v1 width=nan", "`width` .=nan. must be a number above 0"),
        ("shufflenet_v1 groups=5", "`groups` .=5. must be one of 1, 2, 3, 4, 8"),
        ("shufflenet_v1 groups=2 width=0.5", "`width` .=0.5. with 2 groups .*These do: 1, 2"),
        ("shufflenet_v1 conv1=23", "`conv1` .=23. must leave of the 240 channels of stage 2"),
        ("googlenet modules=3a,3c", '`modules` .=.3c.. must be one of "3a", "3b"'),
        ("resnext50 form=both", '`form` .=.both.. must be one of "grouped", "conc'),
        ("resnext50 cardinality=0", "`cardinality` .=0. must be at least 1"),
        ("context large=true dilations=1,2", "`dilations` .*must be seven"),
        ("unet3d padding=FULL", '`padding` .=.FULL.. must be one of "SAME", "VALID"'),
        ("autoencoder upsampling=cubic", '`upsampling` .*must be one of "transposed", "transp'),
        ("nin --convention caffe", "no convention is named 'caffe': choose from convjax, torchv"),
        ("--json", "--json needs the name of a network: nin, alexnet"),
    ],
)
def test_wrong_words(capsys, words, said):
    assert main(words.split()) == 2
    out, error = capsys.readouterr()
    assert out == "" and len(error.splitlines()) == 1
    assert re.search(said, error), error


@pytest.mark.parametrize("name", NETWORKS)
def test_every_key_has_a_default(name):
    """``key=`` with the default's own text is the default."""
    network = NETWORKS[name]
    assert network.keys[-1] == "resolution" or "resolution" in network.arguments
    assert network.read([f"resolution={network.resolution}"]) == {"resolution": network.resolution}
    for key, parameter in network.arguments.items():
        assert parameter.default is not parameter.empty, key


def test_other_keys_are_refused_in_python_too():
    with pytest.raises(ValueError, match="nin: `key` .*must be one of groups2a"):
        NETWORKS["nin"].counts(group=2)


@pytest.mark.slow
def test_the_table():
    """Every network is in it, nothing differs from what was published, and it takes seconds."""
    command = [sys.executable, "-m", "convjax.models"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert done.returncode == 0, done.stderr
    assert seconds < 60  # of a processor's time: 27 seconds on a slow core
    header, _, *rows = done.stdout.split("\n\n")[0].splitlines()
    assert re.split(r"\s{2,}", header)[3] == "difference"
    cells = [re.split(r"\s{2,}", row) for row in rows]
    assert {row[0].split()[0] for row in cells} == set(NETWORKS)
    assert len(rows) == len(PUBLISHED)
    assert {difference for row in cells for difference in (row[3], row[6])} == {"0", "–"}
    assert "†  reported, not verified here" in done.stdout
