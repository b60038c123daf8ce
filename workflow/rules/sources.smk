# Raw data: responses, chats, pretrained models. All downloads are here, in localrules (on a
# cluster: its login node); no other command uses the internet.


localrules:
    responses,
    chats,
    preferences,
    instructions,
    pretrained,


rule responses:
    output:
        frame=at("responses"),
        record=record("responses"),
    log:
        f"logs/{config['preset']}/responses.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("responses"),
    shell:
        "rm-robustness responses --settings {params.settings:q} --output {output.frame}"
        " > {log} 2>&1"


rule chats:
    output:
        frame=at("chats"),
        record=record("chats"),
    log:
        f"logs/{config['preset']}/chats/{{source}}.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("chats"),
    shell:
        "rm-robustness chats --settings {params.settings:q} --output {output.frame}"
        " > {log} 2>&1"


rule preferences:
    output:
        frame=at("preferences"),
        record=record("preferences"),
    log:
        f"logs/{config['preset']}/preferences/{{source}}.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings("preferences"),
    shell:
        "rm-robustness preferences --settings {params.settings:q} --output {output.frame}"
        " > {log} 2>&1"


for benchmark in BENCHMARKS:

    rule:
        name:
            benchmark
        output:
            frame=at("benchmark", benchmark=benchmark),
            record=record("benchmark", benchmark=benchmark),
        log:
            f"logs/{config['preset']}/{benchmark}.log",
        localrule: True
        conda:
            "../../environment.yml"
        params:
            command=benchmark,
            settings=settings("benchmark", benchmark=benchmark),
        shell:
            "rm-robustness {params.command} --settings {params.settings:q} --output {output.frame}"
            " > {log} 2>&1"


if JUDGED:

    rule instructions:
        output:
            at("instructions"),
            at("gamed_baselines"),
            record("instructions"),
        log:
            f"logs/{config['preset']}/instructions.log",
        conda:
            "../../environment.yml"
        params:
            settings=settings("instructions"),
            folder=subpath(output[0], parent=True),
        shell:
            "rm-robustness instructions --settings {params.settings:q} --output {params.folder}"
            " > {log} 2>&1"


rule pretrained:
    output:
        at("pretrained"),
        record("pretrained"),
    log:
        f"logs/{config['preset']}/pretrained/{{model}}.log",
    wildcard_constraints:
        model=".+",
    conda:
        "../../environment.yml"
    params:
        settings=settings("pretrained"),
        folder=subpath(output[0], parent=True),
    shell:
        "rm-robustness pretrained --settings {params.settings:q} --output {params.folder}"
        " > {log} 2>&1"


RAW = [
    path
    for job in jobs.jobs(config)
    if job.phase == "downloads" and job.rule != "pretrained"
    for path in expand(getattr(rules, job.rule).output, source=job.name)
]
