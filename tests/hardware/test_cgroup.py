from pathlib import Path

import pytest

from autofit.hardware.cgroup import core_limits, memory_limits, oom_kill_count

GB = 10**9


@pytest.fixture
def tree(tmp_path):
    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def limits_of(root):
    return [(limit.limit_bytes, limit.left_bytes) for limit in memory_limits(root)]


def test_version_2_own_group(tree):
    root = tree(
        {
            "proc/self/cgroup": "0::/job\n",
            "sys/fs/cgroup/job/memory.max": f"{8 * GB}\n",
            "sys/fs/cgroup/job/memory.current": f"{5 * GB}\n",
            "sys/fs/cgroup/job/memory.stat": f"anon 1\nfile {3 * GB}\ninactive_file {2 * GB}\n",
            "sys/fs/cgroup/job/cpu.max": "150000 100000\n",
        }
    )

    assert limits_of(root) == [(8 * GB, 5 * GB)]  # the two cached gigabytes can be dropped
    assert core_limits(root) == (1.5,)


def test_version_2_nested_limits_all_count(tree):
    root = tree(
        {
            "proc/self/cgroup": "0::/slurm/job_1/step_0\n",
            "sys/fs/cgroup/slurm/job_1/step_0/memory.max": "max\n",
            "sys/fs/cgroup/slurm/job_1/step_0/memory.current": f"{1 * GB}\n",
            "sys/fs/cgroup/slurm/job_1/step_0/cpu.max": "max 100000\n",
            "sys/fs/cgroup/slurm/job_1/memory.max": f"{4 * GB}\n",
            "sys/fs/cgroup/slurm/job_1/memory.current": f"{1 * GB}\n",
            "sys/fs/cgroup/slurm/memory.max": f"{100 * GB}\n",
            "sys/fs/cgroup/slurm/memory.current": f"{98 * GB}\n",
            "sys/fs/cgroup/slurm/cpu.max": "800000 100000\n",
        }
    )

    assert limits_of(root) == [(4 * GB, 3 * GB), (100 * GB, 2 * GB)]
    assert core_limits(root) == (8.0,)


def test_version_2_seen_from_inside_a_container(tree):
    root = tree(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{2 * GB}\n",
            "sys/fs/cgroup/memory.current": f"{3 * GB}\n",
        }
    )

    assert limits_of(root) == [(2 * GB, 0)]


def test_version_1(tree):
    root = tree(
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{6 * GB}\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{4 * GB}\n",
            "sys/fs/cgroup/memory/job/memory.stat": f"cache 1\ntotal_inactive_file {1 * GB}\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        }
    )

    assert limits_of(root) == [(6 * GB, 3 * GB)]
    assert core_limits(root) == (2.0,)


def test_version_1_in_a_container_that_sees_the_hosts_path(tree):
    root = tree(
        {
            "proc/self/cgroup": "4:memory:/docker/0123456789ab\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{6 * GB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
        }
    )

    assert limits_of(root) == [(6 * GB, 6 * GB)]


def test_version_2_beside_version_1(tree):
    root = tree(
        {
            "proc/self/cgroup": "4:memory:/\n0::/job\n",
            "sys/fs/cgroup/unified/job/memory.max": f"{3 * GB}\n",
            "sys/fs/cgroup/unified/job/memory.current": f"{1 * GB}\n",
        }
    )

    assert limits_of(root) == [(3 * GB, 2 * GB)]


def test_version_1_without_a_quota(tree):
    root = tree(
        {
            "proc/self/cgroup": "5:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        }
    )

    assert core_limits(root) == ()


def test_version_1_with_more_words_than_there_should_be(tree):
    root = tree(
        {
            "proc/self/cgroup": "5:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000 1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000 1\n",
        }
    )

    assert core_limits(root) == (2.0,)


@pytest.mark.parametrize("membership", ["0::/\n", ""])
def test_no_limits_at_all(tree, membership):
    root = tree({"proc/self/cgroup": membership})

    assert memory_limits(root) == ()
    assert core_limits(root) == ()
    assert oom_kill_count(root) is None


def test_no_linux(tmp_path):
    assert memory_limits(tmp_path) == ()


@pytest.mark.parametrize(
    ("membership", "path", "text"),
    [
        ("0::/job", "sys/fs/cgroup/job/memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n"),
        ("0::/job/none", "sys/fs/cgroup/job/memory.events", "oom 3\noom_kill 2\n"),
        (
            "4:memory:/job",
            "sys/fs/cgroup/memory/job/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
    ],
    ids=["v2", "v2 parent", "v1"],
)
def test_oom_kill_count(tree, membership, path, text):
    assert oom_kill_count(tree({"proc/self/cgroup": membership + "\n", path: text})) == 2
