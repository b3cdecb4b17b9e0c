"""
Where snapshot data lives apart from the volumes: chunks, trees and manifests in an object store.

The bytes, the order of writes and the rules that keep concurrent acts apart are law in `docs/repository-format.md`.
"""
