// Mutants of whole hosts that the simulator must detect: each drops one check outside the consensus core.

import type { SourceMutant } from './mutant-loader.ts'

const CONSENSUS = 'src/replication/consensus'
const CLUSTER = 'src/replication/cluster'
const FEED = 'src/replication/feed'

export const HOST_MUTANTS: readonly SourceMutant[] = [
  {
    name: 'retry-is-a-new-request',
    bug: 'the proposer gives every attempt a sequence number of its own, so a retry is applied again',
    file: `${CONSENSUS}/proposer.ts`,
    find: 'await this.#askWhileItLeads(server, request,',
    replace: 'await this.#askWhileItLeads(server, { ...request, seq: request.seq + 1_000 * (attempts - 1) },'
  },
  {
    name: 'answers-mixed-up',
    bug: 'every proposal of a committed range gets the first result',
    file: `${CONSENSUS}/pending-requests.ts`,
    find: 'resolve(results[at])',
    replace: 'resolve(results[0])'
  },
  {
    name: 'read-index-without-a-majority',
    bug: 'a server answers a read index without confirming that it leads',
    file: `${CONSENSUS}/read-index.ts`,
    find: 'return p.clock.within(reader.read(), TIMEOUT_MS, late)',
    replace: 'return p.clock.within(Promise.resolve((reader as any).status().commitIndex), TIMEOUT_MS, late)'
  },
  {
    name: 'feed-gap-ignored',
    bug: 'early entries of the feed are delivered before the gap is filled',
    file: `${FEED}/feed-order.ts`,
    find: 'const ready: Entry[] = []',
    replace:
      'const ready: Entry[] = []\n    const first = [...this.#early.keys()].sort((a, b) => a - b)[0]\n    if (first !== undefined) this.#next = first'
  },
  {
    name: 'feed-duplicates-delivered',
    bug: 'entries of the feed that were delivered before are delivered again',
    file: `${FEED}/feed-order.ts`,
    find: 'if (entry.index < this.#next) continue',
    replace: 'if (entry.index < this.#next) this.#next = entry.index'
  },
  {
    name: 'feed-of-anybody',
    bug: 'a feed message is accepted from a host that is no server',
    file: `${FEED}/feed-follower.ts`,
    find: 'if (!isServer(author))',
    replace: 'if (author.length === 0)'
  },
  {
    name: 'feed-of-another-cluster',
    bug: 'a feed message of another cluster is accepted',
    file: `${FEED}/feed-follower.ts`,
    find: 'if (message.clusterId !== clusterId())',
    replace: 'if (message.clusterId.length === 0)'
  },
  {
    name: 'gap-never-fetched',
    bug: 'a client neither notices gaps nor catches up after a silence',
    file: `${FEED}/feed-follower.ts`,
    find: 'if (!this.#fetching) void this.#fetch()',
    replace: 'if (this.#order.next === 1 && !this.#fetching) void this.#fetch()'
  },
  {
    name: 'compacted-entries-not-replaced',
    bug: 'a client that needs compacted entries does not fetch the snapshot',
    file: `${FEED}/feed-follower.ts`,
    find: 'if (page.firstIndex > from) await',
    replace: 'if (page.firstIndex < 0) await'
  },
  {
    name: 'client-log-not-persisted',
    bug: 'a client notes entries as committed without writing them',
    file: `${CLUSTER}/follower.ts`,
    find: '[...this.#tail.settle(entries), {',
    replace: '[{'
  },
  {
    name: 'unsettled-tail-kept',
    bug: 'a former voter appends committed entries after its uncommitted tail, without truncating it',
    file: 'src/replication/storage/unsettled-tail.ts',
    find: "records.push({ kind: 'truncate', from: entry.index })",
    replace: 'void 0'
  },
  {
    name: 'former-voter-current-at-once',
    bug: 'a former voter whose commit index was recorded too low takes its older state for the latest that it acted upon',
    file: `${CLUSTER}/follower.ts`,
    find: 'unconfirmed: tail.at(-1) ?? null',
    replace: 'unconfirmed: null'
  },
  {
    name: 'role-never-changes',
    bug: 'a host that the configuration adds continues as a client',
    file: `${CONSENSUS}/participation.ts`,
    find: 'if (log === null) return takesPart(applied, p)',
    replace: 'if (log === null) return false'
  },
  {
    name: 'removed-server-never-asks',
    bug: 'a removed server that no longer gets messages never finds out',
    file: `${CLUSTER}/participation-rpc.ts`,
    find: 'if (!member && index > p.appliedIndex() && index >= p.configurationIndex()) return index',
    replace: 'if (!member && index < 0) return index'
  },
  {
    name: 'joins-as-a-founder',
    bug: 'a host that joins a cluster takes itself for one of its founders',
    file: `${CLUSTER}/cluster-adoption.ts`,
    find: "if (how === 'adopted') return drawIncarnation(disk, random)",
    replace: "if (how === 'adopted') return 0"
  },
  {
    name: 'applied-twice-after-a-role-change',
    bug: 'entries that are read again after a change of role are applied again',
    file: `${CONSENSUS}/applied-log.ts`,
    find: 'if (index <= this.index) return SKIPPED',
    replace: ''
  },
  {
    name: 'configuration-not-applied',
    bug: 'the configuration of an applied entry is ignored',
    file: `${CONSENSUS}/applied-log.ts`,
    find: 'this.begin(configurationAfter(this.configuration, entries))',
    replace: ''
  },
  {
    name: 'skipped-entries-not-counted',
    bug: 'entries without a command do not advance the state machine',
    file: `${CONSENSUS}/applied-log.ts`,
    find: 'this.#machine.skip(index)',
    replace: ''
  }
]
