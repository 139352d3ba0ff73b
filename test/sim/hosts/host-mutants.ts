// Mutants of whole hosts that the simulator must detect: each drops one check outside the consensus core.

import type { SourceMutant } from '../../mutant-loader.ts'
import { RULES_MUTANTS } from './rules-mutants.ts'
import { STATE_MUTANTS } from './state-mutants.ts'

const CONSENSUS = 'src/replication/consensus'
const TRANSPORT = 'src/replication/transport'
const CLUSTER = 'src/replication/cluster'
const FEED = 'src/replication/feed'
const ENDPOINTS = 'src/agent/endpoints'

export const HOST_MUTANTS: readonly SourceMutant[] = [
  ...RULES_MUTANTS,
  ...STATE_MUTANTS,
  {
    name: 'retry-is-a-new-request',
    bug: 'the proposer gives every attempt a sequence number of its own, so a retry is applied again',
    file: `${CONSENSUS}/proposer.ts`,
    find: 'each.attempts += 1\n    if (each.attempts > 1) this.#retries += 1',
    replace:
      'each.attempts += 1\n    if (each.attempts > 1) (each as any).data = proposal({ ...each.request, seq: each.request.seq + 1_000 * each.attempts, by: each.request.by ?? null, deadlineMs: 0 } as any).data'
  },
  {
    name: 'answers-mixed-up',
    bug: 'every proposal of a committed range gets the first result',
    file: `${CONSENSUS}/pending-requests.ts`,
    find: 'batch.results.push(...results.slice(from, to))',
    replace: 'batch.results.push(...results.slice(0, to - from))'
  },
  {
    name: 'answers-of-a-frame-mixed-up',
    bug: 'every proposal of a frame gets the first answer',
    file: `${CONSENSUS}/lane.ts`,
    find: 'const answer = answers[at]',
    replace: 'const answer = answers[0]'
  },
  {
    name: 'answers-of-any-session',
    bug: 'a request that this host applies answers its own of the same number, whoever has proposed it',
    file: `${CONSENSUS}/proposer.ts`,
    find: 'this.#sessions.get(request.session)?.unsettled',
    replace: 'this.#session?.unsettled'
  },
  {
    name: 'own-entries-in-wrong-places',
    bug: 'a client host takes the entries of a frame for consecutive, although those of others lie between them',
    file: `${CONSENSUS}/leader-route.ts`,
    find: "if (answer !== undefined && 'own' in answer) entries.push({ index: answer.index,",
    replace:
      "if (answer !== undefined && 'own' in answer) entries.push({ index: ((entries[0]?.index ?? answer.index + 1) + entries.length) as any,"
  },
  {
    name: 'bytes-of-a-proposal-trusted',
    bug: 'the leader appends a proposal as it came, whomever it names',
    file: `${CONSENSUS}/propose-rpc.ts`,
    find: 'return isBound(request, bound) && data',
    replace: 'return data'
  },
  {
    name: 'sessions-of-others',
    bug: 'a session that names its owner is taken for that owner’s, whoever uses it',
    file: `${CONSENSUS}/propose-rpc.ts`,
    find: 'unbound.session.startsWith(own) ?',
    replace: "unbound.session.includes('/') ?"
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
    name: 'snapshot-of-later-rows',
    bug: 'a snapshot that is taken in slices has rows as they are when it reaches them',
    file: 'allocator/state-cursor.ts',
    find: 'if (isPassed) return',
    replace: 'return'
  },
  {
    name: 'ticket-for-a-snapshot',
    bug: 'a voter counts a snapshot as received before it has more than its ticket',
    file: `${CLUSTER}/voter-intake.ts`,
    find: 'this.#last = message\n',
    replace: 'if (message.size > 0) return message\n'
  },
  {
    name: 'installed-snapshot-not-kept',
    bug: 'a snapshot of another host replaces state and log, and its file is never renamed',
    file: `${CLUSTER}/snapshot-intake.ts`,
    find: 'await this.#replica.storage.snapshots.adopt(this.received)',
    replace: ''
  },
  {
    name: 'client-log-not-persisted',
    bug: 'a client notes entries as committed without writing them',
    file: `${CLUSTER}/follower.ts`,
    find: '[...this.#tail.settle(entries), {',
    replace: '[{'
  },
  {
    name: 'append-acknowledged-unsynced',
    bug: 'an append to the log is acknowledged before it is on the disk',
    file: 'src/replication/storage/segment-writer.ts',
    find: 'await file.write(extend ? [frame, this.#reserve] : [frame], this.#offset)',
    replace: 'file.write(extend ? [frame, this.#reserve] : [frame], this.#offset).catch(() => undefined)'
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
    find: 'unconfirmed: removedAt === null ? (tail.at(-1) ?? null) : { index: removedAt, term: LAST_TERM }',
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
    find: 'this.#meta = { ...this.#meta, configuration: configurationAfter(this.configuration, fresh) }',
    replace: ''
  },
  {
    name: 'skipped-entries-not-counted',
    bug: 'entries without a command do not advance the state machine',
    file: `${CONSENSUS}/applied-log.ts`,
    find: 'this.#machine.skip(index)',
    replace: ''
  },
  {
    name: 'raft-of-anybody',
    bug: 'a message of Raft is accepted from a host that is no server',
    file: 'src/replication/transport/raft-transport.ts',
    find: 'if (this.#options.isServer(from))',
    replace: 'if (from.length > 0)'
  },
  {
    name: 'tags-give-authority',
    bug: 'a host that says over Serf that it is a server counts as one',
    file: 'src/replication/consensus/authority.ts',
    find: 'return this.#believesTagOf(peer) && this.#tagged()',
    replace: 'return this.#tagged()'
  },
  {
    name: 'proposals-not-bound',
    bug: 'the leader does not name the client host that a request comes from',
    file: 'src/replication/consensus/propose-rpc.ts',
    find: 'return isServer ? request : { ...request, by: from, rules }',
    replace: 'return { ...request, ...(_ === undefined ? {} : { by: _ }) }'
  },
  {
    name: 'rules-of-the-client',
    bug: 'a client host chooses the rules by which its request is applied',
    file: 'src/replication/consensus/propose-rpc.ts',
    find: 'by: from, rules }',
    replace: 'by: from }'
  },
  {
    name: 'clients-change-servers',
    bug: 'a client host makes itself a server',
    file: 'src/replication/replicator.ts',
    find: 'mayChange: from => role.isConfigured(from)',
    replace: 'mayChange: () => true'
  },
  {
    name: 'every-proposer-a-server',
    bug: 'a request of any host counts as a server’s',
    file: 'src/replication/replicator.ts',
    find: 'isServer: peer => role.isConfigured(peer),\n      admit',
    replace: 'isServer: () => true,\n      admit'
  },
  {
    name: 'vtep-not-proven',
    bug: 'a client host registers any VTEP',
    file: 'allocator/admission.ts',
    find: 'if (isProven ||',
    replace: 'if (vtep > 0 ||'
  },
  {
    name: 'registers-others',
    bug: 'a client host registers other hosts',
    file: 'allocator/allowed.ts',
    find: 'return command.host.peerId === by ? null',
    replace: 'return by.length > 0 ? null'
  },
  {
    name: 'attaches-elsewhere',
    bug: 'a client host attaches containers to other hosts',
    file: 'allocator/allowed.ts',
    find: 'return command.host === by ? null',
    replace: 'return by.length > 0 ? null'
  },
  {
    name: 'detaches-from-others',
    bug: 'a client host detaches the containers of others',
    file: 'allocator/allowed.ts',
    find: 'if (endpoint === undefined || isOwn',
    replace: 'if (endpoint === undefined || by.length > 0 || isOwn'
  },
  {
    name: 'networks-of-others',
    bug: 'a client host deletes networks in which others have endpoints',
    file: 'allocator/allowed.ts',
    find: 'if (isOwn(tables, endpoint, by)) continue',
    replace: 'if (by.length > 0) continue'
  },
  {
    name: 'entries-out-of-order',
    bug: 'entries that do not follow each other reach the core',
    file: 'src/raft/impossible.ts',
    find: 'if (entry.index !== index + 1) return',
    replace: 'if (entry.index < 0) return'
  },
  {
    name: 'entries-not-checked',
    bug: 'entries that no replica can apply reach the log',
    file: 'src/replication/consensus/entry-request.ts',
    find: "if (kind !== 'command') return",
    replace: "if (kind !== 'command' || index > 0) return"
  },
  {
    name: 'stranger-unseats',
    bug: 'a server that belongs to no cluster says that others were removed, and they start again for ever',
    file: `${CLUSTER}/participation-rpc.ts`,
    find: "if (clusterId === null) throw new VxmeshError('ERR_PEER', 'this host belongs to no cluster yet')",
    replace: '',
    also: [
      { find: 'if (clusterId !== p.clusterId) throw', replace: "if (clusterId === '') throw" },
      { find: 'index > p.appliedIndex() && ', replace: '' }
    ]
  },
  {
    name: 'takes-any-number',
    bug: 'a host takes more requests than it can answer in time',
    file: `${CONSENSUS}/proposal-window.ts`,
    find: 'if (this.#underWay + this.#waiting.length >= WINDOWS * this.#size) throw',
    replace: 'if (this.#underWay < 0) throw'
  },
  {
    name: 'unanswered-attach-forgotten',
    bug: 'an attach that is committed and whose caller was told that it failed keeps its address',
    file: `${ENDPOINTS}/endpoints.ts`,
    find: 'if (mayHaveBeenMade(err)) {',
    replace: 'if ((err as any) === null) {'
  },
  {
    name: 'unfinished-lost-in-a-restart',
    bug: 'an agent that restarts forgets what ended without an answer',
    file: `${ENDPOINTS}/local-endpoints.ts`,
    find: "if (record === 'unfinished') this.#unfinished.set(key, this.#options.clock.nowMs())",
    replace: "if (record === 'unfinished') continue"
  },
  {
    name: 'false-term-for-ever',
    bug: 'a client that was told of a term that no server has never finds the leader again',
    file: `${CONSENSUS}/leader-hint.ts`,
    find: 'if (term < this.term && this.leader(nowMs) !== null) return false',
    replace: 'if (term < this.term) return false'
  },
  {
    name: 'false-index-for-ever',
    bug: 'a client that was told of an index that no server has lags behind it for ever',
    file: `${FEED}/feed-follower.ts`,
    find: 'if (this.#emptyRounds >= UNCONFIRMED_ROUNDS)',
    replace: 'if (this.#emptyRounds < 0)'
  },
  {
    name: 'flushes-a-channel-that-has-gone',
    bug: 'the channel of a link is looked up again after a frame that may have closed it',
    file: 'src/replication/transport/raft-transport.ts',
    find: 'for (const frame of frames) channel.send(frame)\n      channel.flush()',
    replace: 'for (const frame of frames) (link as any).channel.send(frame)\n      ;(link as any).channel.flush()'
  },
  {
    name: 'raft-stream-never-reopened',
    bug: 'messages of Raft to a server whose direct stream has broken go nowhere',
    file: `${TRANSPORT}/raft-transport.ts`,
    find: 'link.channel = null',
    replace: ''
  },
  {
    name: 'leader-stream-never-reopened',
    bug: 'a host whose direct stream to the leader has broken asks it on that one for ever',
    file: `${TRANSPORT}/rpc.ts`,
    find: 'if (this.#connections.get(peer)?.pending === pending) this.#connections.delete(peer)',
    replace: ''
  },
  {
    name: 'raft-dialled-once',
    bug: 'a server that could not be reached once is not dialled again',
    file: `${TRANSPORT}/raft-transport.ts`,
    find: 'link.retryAtMs = this.#options.clock.nowMs() + link.backoffMs',
    replace: 'link.retryAtMs = Infinity'
  }
]
