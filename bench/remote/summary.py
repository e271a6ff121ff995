"""Summarises the measurements of bench/remote/run in results.json."""

import json
import os
import platform
import statistics
import time

from clips import facts
from setting import CLIPS, CONTAINERS, ENGINES, FILES, HERE, RAW, ROOT, output


def read_raw():
    """The measurements of complete units, and the set of these units."""
    lines, pending, done = [], [], set()
    for text in RAW.read_text().splitlines() if RAW.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:  # Interrupted in the middle of a line.
            pending = []
            continue
        if "done" in line:
            lines += pending
            pending = []
            done.add(json.dumps(line["done"]))
        else:
            pending.append(line)
    return lines, done


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, round((len(values) - 1) * percent / 100))]


def summary(lines):
    """Statistics of all measurements of one kind."""
    good = [line for line in lines if "error" not in line]
    if not good:
        return {"asked": len(lines), "errors": len(lines), "error": lines[0]["error"]} if lines else None
    ms = [line["ms"] for line in good]
    mean = lambda name: statistics.mean(line[name] for line in good)
    pictures = [line["decoded_pictures"] for line in good if "decoded_pictures" in line]
    record = {"asked": len(lines), "errors": len(lines) - len(good), "wrong": sum(line["wrong"] for line in lines),
              "ms": round(statistics.median(ms), 1), "p95_ms": round(percentile(ms, 95), 1), "mean_ms": round(statistics.mean(ms), 1),
              "requests": round(mean("requests"), 2), "bytes": round(mean("bytes")), "connections": round(mean("connections"), 2)}
    if pictures:
        record["decoded_pictures"] = round(statistics.mean(pictures), 1)
    return record


def summarise(arguments, engine_versions):
    lines, _ = read_raw()
    pick = lambda **wanted: [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]
    known = lambda name: list(dict.fromkeys(line[name] for line in lines if line.get(name) is not None))
    results = []
    for clip in [clip for clip in CLIPS if clip in known("clip")]:
        for rtt in sorted(known("rtt")):
            for scenario in ["open", "untouched", "touched", "next", "open_known", "known", "keys", "batch", "process"]:
                engines = {engine: record for engine in ENGINES
                           if (record := summary(pick(clip=clip, rtt=rtt, scenario=scenario, engine=engine)))}
                here = pick(clip=clip, scenario="untouched" if scenario == "known" else scenario, engine="floor")
                floors = [line["ms"] for line in here if line["ms"] is not None]
                results.append({"clip": clip, "rtt": rtt, "scenario": scenario, "engines": engines,
                                "floor_ms": round(statistics.median(floors), 1) if floors else None,
                                "goals": goals(scenario, rtt, clip, pick)})
            results.append({"clip": clip, "rtt": rtt, "scenario": "first", "engines": first_frames(clip, rtt, pick),
                            "floor_ms": None, "goals": {}})
    containers = [{"container": name, "engine": engine,
                   **{step: summary(pick(container=name, engine=engine, scenario=f"{step}_container"))
                      for step in ("open", "frame", "next")}}
                  for name in CONTAINERS for engine in ENGINES
                  if pick(container=name, engine=engine)]
    machine = {"cpu": next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?"),
               "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    clips = {clip: facts(clip) for clip in CLIPS if (FILES / f"{clip}.mp4").exists()}
    checks = summary(pick(scenario="check"))
    content = {"date": time.strftime("%Y-%m-%d"), "commit": output(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]).strip(),
               "rate_mbit": arguments.rate, "rounds": 1 + max(line["round"] for line in lines), "machine": machine, "versions": engine_versions,
               "clips": clips, "results": results, "containers": containers, "ffmpeg_checked": checks}
    (HERE / "results.json").write_text(json.dumps(content, indent=1) + "\n")


def first_frames(clip, rtt, pick):
    """Opening and the first frame after it, as one measurement."""
    result = {}
    for engine in ENGINES:
        lines = [line for scenario in ("open", "untouched") for line in pick(clip=clip, rtt=rtt, engine=engine, scenario=scenario)]
        opened, both = None, []
        for line in pick(clip=clip, rtt=rtt, engine=engine) if lines else []:
            if line["scenario"] == "open":
                opened = line
            elif line["scenario"] == "untouched" and line.get("is_first") and opened and "ms" in line and "ms" in opened:
                both.append({**line, **{name: line[name] + opened[name] for name in ("ms", "requests", "bytes")}})
        if both:
            result[engine] = summary(both)
    return result


def goals(scenario, rtt, clip, pick):
    """Ratios round by round, so that other load of the machine affects both sides; of the frames that both have."""
    def each(engine, number, what):
        lines = pick(clip=clip, rtt=rtt, scenario=what, engine=engine, round=number)
        return {line.get("frame"): line for line in lines if "error" not in line}

    result = {}
    for number in sorted({line["round"] for line in pick(clip=clip, rtt=rtt, scenario=scenario, engine="ours")}):
        ours = each("ours", number, scenario)
        for engine in ("pyav", "fsspec", "torchcodec", "ffmpeg"):
            # Its processes share no state: each frame is one of an untouched GOP.
            is_process = engine == "ffmpeg" and scenario in ("untouched", "known")
            theirs = each(engine, number, "process" if is_process else "untouched" if scenario == "known" else scenario)
            both = [(ours[frame], theirs[frame]) for frame in ours if frame in theirs]
            for name, kind in (("ms", f"times_{engine}"), ("bytes", f"bytes_of_{engine}")):
                own, other = (sum(pair[side][name] for pair in both) for side in (0, 1))
                if name == "ms" and own:
                    result.setdefault(kind, []).append(other / own)
                elif name == "bytes" and other:
                    result.setdefault(kind, []).append(own / other)
        floor = [line["ms"] for line in pick(clip=clip, engine="floor", round=number,
                                             scenario="untouched" if scenario == "known" else scenario) if line["ms"] is not None]
        if floor and ours:
            mean = statistics.mean(line["ms"] for line in ours.values())
            result.setdefault("of_rtt_and_floor", []).append(mean / (rtt + floor[0]))
    return {name: {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}
            for name, values in result.items()}
