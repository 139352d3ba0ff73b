# How Node runs vxmesh, in a checkout and in the package: read by both programs of that name.

# Deletions in the kernel and syncs of the log hold a thread each for milliseconds: Node's four would make them wait.
export UV_THREADPOOL_SIZE="${UV_THREADPOOL_SIZE:-8}"
# A small nursery, and a collection whenever a third more is there than is in use: garbage does not pile up under load.
NODE_FLAGS='--max-semi-space-size=4 --initial-old-space-size=64 --heap-growing-percent=30'
