// A held namespace that is a name alone.

import type { HeldNetns } from '#platform/container-netns.ts'

export function heldNetns(path: string, id = `id of ${path}`): HeldNetns {
  return { path, held: path, id, close: () => undefined }
}
