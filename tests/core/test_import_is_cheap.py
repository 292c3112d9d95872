import subprocess
import sys

HEAVY = [
    "torch",
    "lightning",
    "pandas",
    "matplotlib",
    "sklearn",
    "scipy",
    "cv2",
    "onnxruntime",
    "pydicom",
    "rich",
    "typer",
]


def test_importing_the_package_brings_in_nothing_heavy() -> None:
    code = f"import sonoseek, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_takes_less_than_a_third_of_a_second() -> None:
    code = "import time; t = time.perf_counter(); import sonoseek; sonoseek.Scan; print(time.perf_counter() - t)"
    took = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert took < 0.3


def test_every_public_name_resolves() -> None:
    import sonoseek

    for name in sonoseek.__all__:
        assert getattr(sonoseek, name) is not None
    assert set(sonoseek.__all__) <= set(dir(sonoseek))
