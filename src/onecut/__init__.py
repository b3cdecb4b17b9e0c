"""Onecut: block storage that speaks the Huawei Cloud EVS API, and takes one cut across many disks."""

from importlib.metadata import version

__version__ = version("onecut")
