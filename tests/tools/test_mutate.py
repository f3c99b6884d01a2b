"""Law "planted faults": every fault that the script plants still finds its place."""

import mutate
import pytest


@pytest.mark.parametrize("fault", mutate.FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_the_fault_can_be_planted(fault):
    assert mutate.misplaced(fault) is None
    source = (mutate.ROOT / "convjax" / fault.file).read_text()
    compile(source.replace(fault.old, fault.new), fault.file, "exec")
    for test in fault.tests.split():
        file, name = test.split("::")
        assert f"def {name}(" in (mutate.ROOT / file).read_text()
