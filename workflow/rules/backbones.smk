# Backbones: initialised from config or pretrained, then SFT if configured.


rule backbone:
    input:
        unpack(backbone_inputs),
    output:
        at("backbone"),
        record("backbone"),
        f"{RUN}/backbones/{{backbone}}/README.md",
    log:
        f"logs/{config['preset']}/backbones/{{backbone}}.log",
    benchmark:
        f"{RUN}/benchmarks/backbones/{{backbone}}.tsv"
    wildcard_constraints:
        backbone=trained_here("backbones/"),
    conda:
        "../../environment.yml"
    resources:
        **on_cluster("backbone", "backbone"),
    params:
        settings=settings("backbone"),
        inputs=lambda wildcards, input: " ".join(f"--{k} {v}" for k, v in input.items()),
        folder=subpath(output[0], parent=True),
        work=f"{RUN}/work/backbones/{{backbone}}",
    shell:
        "rm-robustness backbone --settings {params.settings:q} {params.inputs}"
        " --work {params.work} --output {params.folder} > {log} 2>&1"
