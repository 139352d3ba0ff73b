// Collects garbage when the caller knows better than V8, which lets 64 MiB of buffers outside its heap gather before it looks,
// and returns what malloc keeps of them to the kernel.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { mallocTrim } from './libc.ts'

type Collect = (options: { readonly type: 'minor' | 'major'; readonly execution: 'sync' | 'async' }) => unknown

let collect: Collect | null = null

/**
 * Minor: what became garbage soon after it was made, at once, within a few ms. Major: everything, in a task of its own, some
 * 50 ms for a heap of 64 MiB.
 */
export async function collectGarbage(type: 'minor' | 'major'): Promise<void> {
  if (collect === null) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as Collect
  }
  await collect({ type, execution: type === 'minor' ? 'sync' : 'async' })
  if (type === 'major') mallocTrim()
}
