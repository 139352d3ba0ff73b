// A HeldNetns that is only a path, without a namespace behind it.

import type { HeldNetns } from '#platform/container-netns.ts'

export function heldNetns(path: string, id = `id of ${path}`): HeldNetns {
  return { path, held: path, id, close: () => undefined }
}
