# Tables, figures and claims, from scores, generated answers and judgements; no model is loaded.
# RESULTS (src/rm_robustness/experiment/catalog.py) has their inputs and settings. The last rules
# copy the active preset's results to results/.

# An edit of this code recomputes the results, which takes seconds.
CODE = code(*catalog.CODE)
TEXTS = [name for name in RESULTS if not catalog.is_figure(name)]
DRAWN = [name for name in RESULTS if catalog.is_figure(name)]
TABLES = expand("{name}.{suffix}", name=sorted(TEXTS), suffix=["csv", "md"])
FIGURES = expand("{name}.{suffix}", name=sorted(DRAWN), suffix=["png", "pdf", "csv"])
# What results/ has of them, with their records.
PUBLISHED = [
    *expand(f"{RUN}/results/{{artifact}}", artifact=TABLES + FIGURES),
    *expand(record("result"), name=RESULTS),
    at("index"),
    record("index"),
]


localrules:
    publish,
    publish_table,
    publish_figure,
    publish_on_request,
    publish_index,
    metrics,
    index,
    run_times,


for text in [*TEXTS, *ON_REQUEST]:

    rule:
        name:
            text
        input:
            inputs_of(text),
        output:
            csv=f"{RUN}/results/{text}.csv",
            md=f"{RUN}/results/{text}.md",
            html=report(f"{RUN}/results/{text}.html", **in_report(text)),
            figure=(
                multiext(f"{RUN}/results/{text}", ".png", ".pdf")
                if text in ON_REQUEST
                else []
            ),
            record=f"{RUN}/results/{text}.record.json",
        log:
            f"logs/{config['preset']}/{text}.log",
        localrule: True
        conda:
            "../../environment.yml"
        params:
            code=CODE,
            command=text,
            settings=shown(text),
            runs=subpath(output.csv, ancestor=2),
        shell:
            "rm-robustness {params.command} --settings {params.settings:q} --runs {params.runs}"
            " --output {output.csv} > {log} 2>&1"


for drawn in DRAWN:

    rule:
        name:
            drawn
        input:
            inputs_of(drawn),
        output:
            png=report(f"{RUN}/results/{drawn}.png", **in_report(drawn)),
            more=multiext(f"{RUN}/results/{drawn}", ".pdf", ".csv", ".record.json"),
        log:
            f"logs/{config['preset']}/{drawn}.log",
        localrule: True
        conda:
            "../../environment.yml"
        params:
            code=CODE,
            command=drawn,
            settings=shown(drawn),
            runs=subpath(output.png, ancestor=2),
            stem=subpath(output.png, strip_suffix=".png"),
        shell:
            "rm-robustness {params.command} --settings {params.settings:q} --runs {params.runs}"
            " --output {params.stem} > {log} 2>&1"


# The values of all tables as JSON, for `dvc metrics`.
rule metrics:
    input:
        expand(at("result"), name=catalog.tables_with_metrics(config)),
    output:
        json=at("metrics"),
        record=record("metrics"),
    log:
        f"logs/{config['preset']}/metrics.log",
    conda:
        "../../environment.yml"
    params:
        code=CODE,
    shell:
        "rm-robustness metrics --tables {input} --output {output.json} > {log} 2>&1"


# One page of all results, to read without anything else.
rule index:
    input:
        expand(
            f"{RUN}/results/{{name}}.{{suffix}}",
            name=TEXTS,
            suffix=["csv", "md", "record.json"],
        ),
        expand(
            f"{RUN}/results/{{name}}.{{suffix}}",
            name=DRAWN,
            suffix=["csv", "png", "record.json"],
        ),
        expand("workflow/report/{name}.rst", name=RESULTS),
    output:
        html=at("index"),
        record=record("index"),
    log:
        f"logs/{config['preset']}/index.log",
    conda:
        "../../environment.yml"
    params:
        code=CODE,
        settings=as_json(SETTINGS["index"](config)),
        results=subpath(output.html, parent=True),
    shell:
        "rm-robustness index --settings {params.settings:q} --results {params.results}"
        " --captions workflow/report --output {output.html} > {log} 2>&1"


# For the report alone: run times differ between runs.
rule run_times:
    input:
        expand(at("result"), name=RESULTS),
    output:
        report(
            f"{RUN}/results/run_times.html",
            caption="../report/run_times.rst",
            category="0 Claims and cost",
            labels={"result": "Run times: what each phase cost"},
        ),
    log:
        f"logs/{config['preset']}/run_times.log",
    conda:
        "../../environment.yml"
    params:
        benchmarks=subpath(output[0], ancestor=2),
    shell:
        "rm-robustness run-times --benchmarks {params.benchmarks}/benchmarks --output {output}"
        " > {log} 2>&1"


# results/ has the results of one preset. No job rests on it, and neither `all` nor DVC asks for it:
# otherwise a run of another preset would leave them out of date. What is copied replaces what
# another preset has there.
rule publish:
    input:
        PUBLISHED,
    log:
        f"logs/{config['preset']}/publish.log",
    conda:
        "../../environment.yml"
    shell:
        "rm-robustness publish --paths {input} > {log} 2>&1"


rule publish_table:
    input:
        multiext(f"{RUN}/results/{{table}}", ".csv", ".md", ".record.json"),
    output:
        multiext("results/{table}", ".csv", ".md", ".record.json"),
    log:
        f"logs/{config['preset']}/publish/{{table}}.log",
    conda:
        "../../environment.yml"
    shell:
        "rm-robustness publish --paths {input} > {log} 2>&1"


rule publish_figure:
    input:
        multiext(f"{RUN}/results/{{figure}}", ".png", ".pdf", ".csv", ".record.json"),
    output:
        multiext("results/{figure}", ".png", ".pdf", ".csv", ".record.json"),
    log:
        f"logs/{config['preset']}/publish/{{figure}}.log",
    conda:
        "../../environment.yml"
    shell:
        "rm-robustness publish --paths {input} > {log} 2>&1"


rule publish_on_request:
    input:
        requested,
    output:
        multiext("results/{requested}", ".csv", ".md", ".png", ".pdf", ".record.json"),
    log:
        f"logs/{config['preset']}/publish/{{requested}}.log",
    conda:
        "../../environment.yml"
    shell:
        "rm-robustness publish --paths {input} > {log} 2>&1"


# With all that it shows and links to beside it.
rule publish_index:
    input:
        expand("results/{artifact}", artifact=TABLES + FIGURES),
        made=[at("index"), record("index")],
    output:
        "results/index.html",
        "results/index.record.json",
    log:
        f"logs/{config['preset']}/publish/index.log",
    conda:
        "../../environment.yml"
    shell:
        "rm-robustness publish --paths {input.made} > {log} 2>&1"
