// Which cluster a host joins, and as what, with real libp2p between the founders and real disks: a founding intent survives
// the process, and only that.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ClusterId, HostName } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { systemClock } from '#platform/clock.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { createLogger } from '#platform/log.ts'
import { systemRandom } from '#platform/random.ts'
import { ClusterAdoption } from '#replication/cluster/cluster-adoption.ts'
import { foundingOrigin } from '#replication/cluster/bootstrap.ts'
import { FoundingIntent } from '#replication/cluster/founding-intent.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { waitFor } from '#test/lab/wait.ts'
import { host, introduce, type Host } from '../hosts.ts'

const logger = createLogger('silent')

function member(on: Host, clusterId?: ClusterId): Member {
  return {
    name: on.peer as unknown as HostName,
    address: parseIpv4('127.0.0.1'),
    port: 1,
    status: 'alive',
    role: 'server',
    peerId: on.peer,
    vtep: parseIpv4('127.0.0.1'),
    p2pPort: on.port,
    protocol: 1,
    bootstrapExpect: 2,
    ...(clusterId === undefined ? {} : { clusterId })
  }
}

/** One run of a founder, which sees these members. */
async function run(t: Test, p: { on: Host; dataDir: string; members: readonly Member[] }): Promise<ClusterAdoption> {
  const { on, dataDir, members } = p
  const storage = await openStorage(dataDir, on.peer, { clock: systemClock })
  t.teardown(() => storage.wal.close())
  const adoption: ClusterAdoption = new ClusterAdoption({
    ...{ self: on.peer, bootstrapExpect: 2, storage, seed: null, rpc: on.rpc, logger },
    disk: { dataDir, files: diskFiles },
    clock: systemClock,
    random: systemRandom,
    members: () => members,
    joined: () => Promise.resolve(),
    seedFetched: () => undefined,
    stopping: new AbortController().signal,
    fatal: err => {
      throw err
    }
  })
  adoption.serve()
  await adoption.start()
  return adoption
}

type Founders = { readonly a: Host; readonly b: Host; readonly origin: ReturnType<typeof foundingOrigin> }

async function founders(t: Test): Promise<Founders> {
  const [a, b] = await Promise.all([host(t), host(t)])
  introduce(a, b)
  return { a, b, origin: foundingOrigin([a.peer, b.peer].sort(), null) }
}

const ask = ({ a, b }: Founders, cluster: ClusterId): Promise<unknown> =>
  a.rpc.call({ peer: b.peer, method: 'bootstrap', body: cluster, timeoutMs: 5_000 })

for (const { claim, asked, wiped, incarnation } of [
  { claim: 'a founder that crashes after its promise is a founder', asked: true, wiped: false, incarnation: /^0$/ },
  { claim: 'a host that made no promise is not', asked: false, wiped: false, incarnation: /^[1-9]/ },
  { claim: 'nor is one whose disk was replaced', asked: true, wiped: true, incarnation: /^[1-9]/ }
]) {
  t.test(claim, async t => {
    const f = await founders(t)
    const { a, b, origin } = f
    const dataDir = t.testdir({ one: {}, two: {} })
    const first = await run(t, { on: b, dataDir: join(dataDir, 'one'), members: [member(a), member(b)] })
    t.equal(await ask(f, 'ffffffffffffffff' as ClusterId), false, 'another cluster is not its own')
    t.equal(existsSync(join(dataDir, 'one/founding')), false, 'a refusal records nothing')
    if (asked) t.equal(await ask(f, origin.clusterId), true)
    t.equal(first.origin, null, 'it crashes before it learns of the cluster')

    // The other founds, and is visible to the next run.
    a.rpc.register('origin', () => Promise.resolve([origin.clusterId, origin.configuration.voters, []]))
    const members = [member(a, origin.clusterId), member(b)]
    const next = await run(t, { on: b, dataDir: join(dataDir, wiped ? 'two' : 'one'), members })
    next.check()
    await waitFor('it has joined', () => next.origin !== null)
    t.equal(next.origin?.clusterId, origin.clusterId)
    t.match(String(next.incarnation), incarnation)
    t.equal(
      existsSync(join(dataDir, 'one/founding')),
      asked && wiped,
      'a disk that belongs to a cluster keeps no record'
    )
  })
}

t.test('a disk that belongs to a cluster makes no promise, and keeps none', async t => {
  const dir = t.testdir()
  const disk = { dataDir: dir, files: diskFiles }
  const intent = new FoundingIntent(disk)
  await intent.load()
  t.equal(intent.recorded, null)
  const [one, other] = ['0123456789abcdef', 'fedcba9876543210'] as [ClusterId, ClusterId]
  t.same(await Promise.all([intent.record(one), intent.record(other)]), [true, true])
  const read = async (): Promise<ClusterId | null> => {
    const again = new FoundingIntent(disk)
    await again.load()
    return again.recorded
  }
  t.equal(await read(), other, 'the last promise counts')
  const [late] = await Promise.all([intent.clear().then(() => intent.record(one)), intent.clear()])
  t.equal(late, false)
  t.equal(await read(), null)
})
