// The key-value view as the API answers it: a page of keys, or one key. Pure.

import { getKv, listKv } from '#allocator/kv-view.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { VxmeshError } from '#model/errors.ts'
import type { KvEntryView, KvPageView } from '#model/views.ts'

export type KvPageRange = { readonly prefix: string; readonly after: string; readonly limit: number }

export function kvPage(state: ClusterState, range: KvPageRange): KvPageView {
  // One entry more than asked for shows whether there is a next page.
  const found = listKv(state, { ...range, limit: range.limit + 1 })
  const entries = found.slice(0, range.limit)
  return { entries, next: found.length > entries.length ? (entries.at(-1)?.key ?? null) : null }
}

/** @throws ERR_KEY_NOT_FOUND */
export function kvValue(state: ClusterState, key: string): KvEntryView {
  const value = getKv(state, key)
  if (value === undefined) throw new VxmeshError('ERR_KEY_NOT_FOUND', `there is no key ${key}`, { field: 'key' })
  return { key, value }
}
