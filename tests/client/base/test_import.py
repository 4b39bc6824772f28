"""What importing the library brings along, and what it leaves to others."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_INVOKE = """
import sys
import iot.sftp.client
assert not [name for name in sys.modules if name.partition(".")[0] == "invoke"]
"""
AN_APPLICATION_THAT_READS_CONFIGURATIONS = """
import sys
import iot.sftp.client
import paramiko
configuration = paramiko.SSHConfig.from_text('Match exec "true"\\n  User somebody\\n')
assert configuration.lookup("host")["user"] == "somebody"
assert sys.modules["invoke"].run
"""
AN_APPLICATION_THAT_USES_INVOKE = """
import iot.sftp.client
import invoke
import invoke.tasks
from invoke import task
assert invoke.tasks.task is task
assert invoke.run("true", hide=True).ok
"""
AN_APPLICATION_THAT_HAS_IMPORTED_IT = """
import sys
import invoke
import iot.sftp.client
import paramiko.config
assert sys.modules["invoke"] is paramiko.config.invoke is invoke
"""
AN_APPLICATION_THAT_HAS_IMPORTED_PARAMIKO = """
import paramiko.config
invoke = paramiko.config.invoke
import iot.sftp.client
assert paramiko.config.invoke is invoke
"""
WHERE_IT_IS_NOT_INSTALLED = """
import sys
import iot.sftp.client
import paramiko
sys.modules["invoke"] = None
configuration = paramiko.SSHConfig.from_text('Match exec "true"\\n  User somebody\\n')
try:
    configuration.lookup("host")
except ImportError:
    pass
else:
    raise AssertionError
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(WITHOUT_INVOKE, id="we do without"),
        pytest.param(AN_APPLICATION_THAT_READS_CONFIGURATIONS, id="Match exec"),
        pytest.param(AN_APPLICATION_THAT_USES_INVOKE, id="used afterwards"),
        pytest.param(AN_APPLICATION_THAT_HAS_IMPORTED_IT, id="imported before"),
        pytest.param(AN_APPLICATION_THAT_HAS_IMPORTED_PARAMIKO, id="paramiko imported before"),
        pytest.param(WHERE_IT_IS_NOT_INSTALLED, id="not installed"),
    ],
)
def test_invoke_is_imported_by_who_needs_it_only(program: str) -> None:
    """When the first one fails: paramiko imports invoke in another way, and `_base/paramiko.py` has to follow."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
