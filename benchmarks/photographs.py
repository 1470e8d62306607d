"""Which of the photographs in COUNTERPOINT_PHOTOS what was tuned on, and which were kept apart."""

import os
import sys
from pathlib import Path

# The refinement of integrated gradients (its first cuts, intervals a round and weights) was chosen on these.
TUNED = """
140_red-backed_sandpiper 020_water_ouzel 205_flat-coated_retriever 840_swab 405_airship 510_container_ship 600_hook
785_seat_belt 065_sea_snake 320_damselfly 605_ipod 430_basketball
""".split()

# Looked at once, with other settings, before the settings were settled; used for nothing since.
SEEN = """
030_bullfrog 335_fox_squirrel 375_colobus 015_robin 470_candle 525_dam 145_king_penguin 980_volcano 570_gasmask
125_hermit_crab 640_manhole_cover 005_electric_ray 165_black-and-tan_coonhound 330_wood_rabbit 160_afghan_hound
575_golfcart 990_buckeye 790_shopping_basket 565_freight_car 905_window_shade
""".split()

# Measured on, never tuned on.
KEPT_APART = """
650_microphone 900_water_tower 935_mashed_potato 660_mobile_home 895_warplane 970_alp 360_otter 235_german_shepherd
185_norfolk_terrier 890_volleyball 000_tench 695_padlock 210_german_short-haired_pointer 345_ox 415_bakery
755_radio_telescope 560_football_helmet 550_espresso_maker 615_knee_pad 845_syringe
""".split()


def folder() -> Path:
    """The folder of photographs; ends the program with a sentence where it is not set."""
    path = os.environ.get("COUNTERPOINT_PHOTOS")
    if not path:
        sys.exit("set COUNTERPOINT_PHOTOS to the folder of labelled photographs to run this benchmark")
    return Path(path)
