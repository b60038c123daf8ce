from rm_robustness.progress import Progress, clock


def test_the_line_has_done_total_rate_and_time_left(capsys, monkeypatch):
    times = iter([0.0, 10.0, 12.0, 21.0, 22.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    cpu = iter([1.0, 21.5])
    monkeypatch.setattr("time.process_time", lambda: next(cpu))
    progress = Progress("generate", 7300, "responses", done=50)
    for done in (60, 62, 90, 7300):
        progress.update(done, ", loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "generate: 60/7300 responses, 1.0/s, 2:00:40 left, loss 0.5",
        "generate: 90/7300 responses, 1.9/s, 1:03:05 left, loss 0.5",
        "generate: 7300/7300 responses, 329.5/s, done in 0:22 (20.5 s of CPU), loss 0.5",
    ]


def test_clock():
    assert [clock(s) for s in (0, 59.6, 61, 3600, 36061)] == [
        "0:00",
        "1:00",
        "1:01",
        "1:00:00",
        "10:01:01",
    ]
