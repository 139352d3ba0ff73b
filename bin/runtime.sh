# Node's settings for vxmesh, in a checkout and in the package: sourced by both wrapper scripts.

# Deletions in the kernel and syncs of the log block a thread each for milliseconds, too long for Node's default of four.
export UV_THREADPOOL_SIZE="${UV_THREADPOOL_SIZE:-8}"
# By default each thread has an arena of its own, whose free memory the others cannot use: 3 MiB of an idle agent.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}"
# A small nursery, and a collection whenever the heap has grown by a third: garbage does not pile up under load.
NODE_FLAGS='--max-semi-space-size=4 --initial-old-space-size=64 --heap-growing-percent=30'
