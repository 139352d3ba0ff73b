// Where a host keeps its files, and through which layer: the real disk, or a simulated one.

import type { FileLayer } from '#platform/file-layer.ts'

export type HostDisk = { readonly dataDir: string; readonly files: FileLayer }
