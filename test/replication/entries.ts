// Log entries, and a server's log of them.

import type { ClusterId, LogIndex, Term } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'
import { serveFetch, type PageSource } from '#replication/feed/fetch.ts'
import type { Host } from './hosts.ts'

export const CLUSTER = '0123456789abcdef' as ClusterId

export const index = (n: number): LogIndex => n as LogIndex

export function entry(n: number, bytes = 1): Entry {
  return {
    index: index(n),
    term: 1 as Term,
    kind: n % 5 === 0 ? 'noop' : 'command',
    data: new Uint8Array(bytes).fill(n)
  }
}

/** Entries first to last. */
export function entries(first: number, last: number, bytes = 1): Entry[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, n) => entry(first + n, bytes))
}

/** The entries 1 to `count`, at most `perPage` at a time; counts how often it was asked. */
export class Log {
  count: number
  perPage: number
  asked = 0

  constructor(count: number, perPage = 10) {
    this.count = count
    this.perPage = perPage
  }

  get source(): PageSource {
    return {
      clusterId: CLUSTER,
      committedEntries: from => {
        this.asked += 1
        return entries(from, Math.min(this.count, from + this.perPage - 1))
      },
      commitIndex: () => index(this.count),
      firstIndex: () => 1 as LogIndex
    }
  }

  serveOn(host: Host): void {
    serveFetch(host.rpc, () => this.source)
  }
}
