"""The text form of methods and baselines, "name:parameter=value,...", taken apart."""


def parts_of(parameters: str) -> list[str]:
    """Parameters cut at their commas; those within brackets stay whole: "regions=grid(cells=4,b=2),n=3" has two."""
    parts, depth = [""], 0
    for character in parameters:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
