"""A small catalogue of units and unit systems, as data, under the names of the service's own.

A value in a unit is `(value + offset) * factor` in the base unit of its quantity.
"""

from typing import Final

# Quantity -> unit -> factor, and where it is not nought the offset.
UNITS: Final[dict[str, dict[str, tuple[float, ...]]]] = {
    "acceleration": {"m-per-sec2": (1,), "ft-per-sec2": (0.3048,)},
    "angle": {"rad": (1,), "deg": (0.017453292519943295,), "rev": (6.283185307179586,)},
    "angular_velocity": {
        "rad-per-sec": (1,),
        "rev-per-sec": (6.283185307179586,),
        "rev-per-min": (6.283185307179586 / 60,),
    },
    "area": {"m2": (1,), "centim2": (1e-4,), "millim2": (1e-6,), "ft2": (0.3048**2,), "in2": (0.0254**2,)},
    "density": {"kilogm-per-m3": (1,), "gm-per-centim3": (1000,), "lb-per-ft3": (0.45359237 / 0.3048**3,)},
    "dimensionless_ratio": {"fraction": (1,), "percent": (0.01,), "ppm": (1e-6,), "ppb": (1e-9,)},
    "dynamic_viscosity": {
        "pa-sec": (1,),
        "centipoise": (0.001,),
        "lb-per-ft-sec": (0.45359237 / 0.3048,),
    },
    "electric_current": {"a": (1,), "millia": (0.001,), "kiloa": (1000,)},
    "electric_potential": {"v": (1,), "milliv": (0.001,), "kilov": (1000,)},
    "energy": {
        "j": (1,),
        "kiloj": (1e3,),
        "megaj": (1e6,),
        "kilow-hr": (3.6e6,),
        "megaw-hr": (3.6e9,),
        "btu_it": (1055.05585262,),
    },
    "force": {"n": (1,), "kilon": (1000,), "lb_f": (4.4482216152605,)},
    "frequency": {"hz": (1,), "kilohz": (1000,), "per-min": (1 / 60,)},
    "length": {
        "m": (1,),
        "millim": (0.001,),
        "centim": (0.01,),
        "kilom": (1000,),
        "in": (0.0254,),
        "ft": (0.3048,),
        "yd": (0.9144,),
        "mi": (1609.344,),
    },
    "mass": {
        "kilogm": (1,),
        "gm": (0.001,),
        "milligm": (1e-6,),
        "tonne": (1000,),
        "lb": (0.45359237,),
        "oz": (0.45359237 / 16,),
    },
    "mass_flow_rate": {
        "kilogm-per-sec": (1,),
        "kilogm-per-hr": (1 / 3600,),
        "tonne-per-hr": (1000 / 3600,),
        "tonne-per-day": (1000 / 86_400,),
        "lb-per-sec": (0.45359237,),
    },
    "power": {"w": (1,), "kilow": (1e3,), "megaw": (1e6,), "hp": (745.6999,)},
    "pressure": {
        "pa": (1,),
        "hectopa": (100,),
        "kilopa": (1e3,),
        "megapa": (1e6,),
        "millibar": (100,),
        "bar": (1e5,),
        "barg": (1e5, 1.01325),
        "atm": (101_325,),
        "psi": (6894.757293168362,),
        "psig": (6894.757293168362, 101_325 / 6894.757293168362),
    },
    "temperature": {
        "k": (1,),
        "deg_c": (1, 273.15),
        "deg_f": (5 / 9, 459.67),
        "deg_r": (5 / 9,),
    },
    "time": {
        "sec": (1,),
        "millisec": (0.001,),
        "min": (60,),
        "hr": (3600,),
        "day": (86_400,),
    },
    "torque": {"n-m": (1,), "lb_f-ft": (4.4482216152605 * 0.3048,)},
    "velocity": {
        "m-per-sec": (1,),
        "kilom-per-hr": (1 / 3.6,),
        "ft-per-sec": (0.3048,),
        "mi-per-hr": (0.44704,),
        "kn": (1852 / 3600,),
    },
    "volume": {
        "m3": (1,),
        "l": (0.001,),
        "millil": (1e-6,),
        "ft3": (0.3048**3,),
        "bbl_us": (0.158987294928,),
    },
    "volume_flow_rate": {
        "m3-per-sec": (1,),
        "m3-per-hr": (1 / 3600,),
        "m3-per-day": (1 / 86_400,),
        "l-per-sec": (0.001,),
        "l-per-min": (0.001 / 60,),
        "ft3-per-sec": (0.3048**3,),
        "bbl_us-per-day": (0.158987294928 / 86_400,),
    },
}

_SI: Final = {
    quantity: next(unit for unit, conversion in units.items() if conversion == (1,))
    for quantity, units in UNITS.items()
}

# System -> quantity -> unit.
SYSTEMS: Final[dict[str, dict[str, str]]] = {
    "SI": _SI,
    "Default": _SI
    | {"angle": "deg", "angular_velocity": "rev-per-sec", "pressure": "bar", "temperature": "deg_c"},
    "Imperial": {
        "acceleration": "ft-per-sec2",
        "area": "ft2",
        "density": "lb-per-ft3",
        "dynamic_viscosity": "lb-per-ft-sec",
        "energy": "btu_it",
        "force": "lb_f",
        "length": "ft",
        "mass": "lb",
        "mass_flow_rate": "lb-per-sec",
        "power": "hp",
        "pressure": "psi",
        "temperature": "deg_f",
        "torque": "lb_f-ft",
        "velocity": "ft-per-sec",
        "volume": "ft3",
        "volume_flow_rate": "ft3-per-sec",
    },
}
