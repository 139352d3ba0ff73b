// Real Serf processes on loopback, in network and pid namespaces of the test's own: all processes in there end with the
// first one, whatever happens to the test.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Membership, type MembershipOptions, type MembershipUpdate } from '#membership/serf/membership.ts'
import { SerfRpc } from '#membership/serf/serf-rpc.ts'
import type { MemberChange } from '#membership/view/view.ts'
import { parseIp } from '#model/ip.ts'
import { systemClock } from '#platform/clock.ts'
import { must } from '#test/lab/kernel.ts'
import { waitFor } from '#test/lab/wait.ts'
import { tags } from './fixtures.ts'
import { optionsOf } from './options.ts'

const INSIDE = 'VXMESH_TEST_INSIDE'
const namespaces = ['--net', '--pid', '--fork', '--kill-child', '--mount-proc']

if (process.getuid?.() !== 0) {
  t.test('real Serf processes', { skip: 'namespaces need root' }, t => t.end())
} else if (process.env[INSIDE] === undefined) {
  const args = [...namespaces, process.execPath, ...process.execArgv, import.meta.filename]
  await t.spawn('unshare', args, { env: { ...process.env, [INSIDE]: '1' } }, 'in namespaces of its own')
} else {
  await must('ip', ['link', 'set', 'lo', 'up'])
  tests()
}

type Started = { readonly membership: Membership; readonly dataDir: string; readonly updates: MembershipUpdate[] }

function directory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'vxmesh-serf-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Starts host h<n>; its Serf ends with the test. */
async function start(t: Test, n: number, more: Partial<MembershipOptions> = {}): Promise<Started> {
  const dataDir = more.dataDir ?? directory(t)
  const membership = new Membership({ ...optionsOf(n, dataDir), ...more })
  const updates: MembershipUpdate[] = []
  membership.onChange(update => updates.push(update))
  t.teardown(() => membership.stop())
  await membership.start()
  return { membership, dataDir, updates }
}

/** Starts an agent of h1 and kills it; its Serf keeps running. @returns Serf's pid */
async function orphan(dataDir: string): Promise<number> {
  const args = [...process.execArgv, join(import.meta.dirname, 'agent-stub.ts'), '1', dataDir]
  const agent = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [pid] = (await once(agent.stdout, 'data')) as [Buffer]
  agent.kill('SIGKILL')
  await once(agent, 'exit')
  return Number(pid.toString())
}

const nameOf = (change: MemberChange): string => (change.kind === 'vanished' ? change.before.name : change.after.name)

const shown = ({ membership }: Started): string => {
  const members = membership.view()?.members ?? []
  return members.map(({ name, status, bootstrapExpect }) => `${name} ${status} ${bootstrapExpect}`).join(', ')
}

const sees = (host: Started, members: string): Promise<unknown> =>
  waitFor(members, () => shown(host) === members, { explain: () => shown(host) })

function tests(): void {
  t.test('hosts whose addresses are IPv6 join, by `serf join` too', async t => {
    const options = (n: number): Partial<MembershipOptions> => {
      const bind = parseIp(`fd00::${n}`)
      return { bind, tags: tags(n, { vtep: bind }) }
    }
    for (const n of [1, 2, 3]) await must('ip', ['addr', 'add', `fd00::${n}/128`, 'dev', 'lo', 'nodad'])
    const [one, two, three] = [
      await start(t, 1, options(1)),
      await start(t, 2, options(2)),
      await start(t, 3, { ...options(3), join: ['[fd00::1]:7946'] })
    ]
    t.equal(await two.membership.join(['[fd00::1]']), 1, 'with Serf’s own port')
    await Promise.all([one, two, three].map(host => sees(host, 'h1 alive 3, h2 alive 3, h3 alive 3')))
    t.match(
      one.membership.view()?.members,
      [1, 2, 3].map(n => ({ address: `fd00::${n}`, vtep: `fd00::${n}` }))
    )
    await two.membership.leave()
    await sees(one, 'h1 alive 3, h2 left 3, h3 alive 3')
    const again = await start(t, 2, { ...options(2), dataDir: directory(t) })
    await must('serf', ['join', '-rpc-addr=127.0.0.1:7374', '[fd00::3]:7946'])
    await sees(again, 'h1 alive 3, h2 alive 3, h3 alive 3')
  })

  t.test('hosts join, and see each other, changed tags and a leave', async t => {
    const [one, two] = [await start(t, 1), await start(t, 2)]
    t.equal(shown(one), 'h1 alive 3', 'alone at first')
    t.equal(await two.membership.join(['127.0.0.1:7946']), 1)
    await Promise.all([one, two].map(host => sees(host, 'h1 alive 3, h2 alive 3')))
    t.match(one.membership.view()?.members, [
      { port: 7_946, p2pPort: 7_947 },
      { port: 7_946, p2pPort: 7_947 }
    ])

    await two.membership.setTags({ bootstrapExpect: 5 })
    await Promise.all([one, two].map(host => sees(host, 'h1 alive 3, h2 alive 5')))

    const { serfPid } = two.membership
    await two.membership.leave()
    t.notOk(existsSync(`/proc/${serfPid ?? 0}/exe`), 'Serf has exited')
    await sees(one, 'h1 alive 3, h2 left 5')
    t.ok(one.updates.every(({ view }, at) => view.revision > (one.updates[at - 1]?.view.revision ?? 0)))
    t.same(
      one.updates.map(({ first }) => first),
      one.updates.map((_, at) => at === 0)
    )
    const ofTwo = one.updates.flatMap(({ changes }) => changes).filter(change => nameOf(change) === 'h2')
    t.match(ofTwo, [
      { kind: 'appeared' },
      { kind: 'changed', before: { bootstrapExpect: 3 }, after: { bootstrapExpect: 5 } }
    ])

    const back = await start(t, 2, { dataDir: two.dataDir })
    await sees(back, 'h1 alive 3, h2 alive 3')
    await sees(one, 'h1 alive 3, h2 alive 3')
  })

  t.test('a failed join is an error and changes nothing', async t => {
    const [one, stranger] = [await start(t, 1), await start(t, 2, { encryptKey: Buffer.alloc(32, 8) })]
    for (const [what, address] of [
      ['no host', '127.0.0.9:7946'],
      ['another key', '127.0.0.1:7946'],
      ['not an address', 'not an address:x:y'],
      ['empty', '']
    ] as const) {
      await t.rejects(stranger.membership.join([address]), { code: 'ERR_JOIN_FAILED' }, what)
    }
    t.equal(await one.membership.join(['127.0.0.9:7946', '127.0.0.1:7946']), 1, 'one of two addresses is enough')
    t.equal(shown(one), 'h1 alive 3')
    t.equal(shown(stranger), 'h2 alive 3')
  })

  t.test('a killed Serf is restarted and rejoins, and the view stays valid meanwhile', async t => {
    const [one, two] = [await start(t, 1), await start(t, 2)]
    await two.membership.join(['127.0.0.1:7946'])
    await Promise.all([one, two].map(host => sees(host, 'h1 alive 3, h2 alive 3')))
    for (let turn = 0; turn < 2; turn++) {
      const before = two.membership.serfPid ?? 0
      process.kill(before, 'SIGKILL')
      await waitFor('a new Serf', () => {
        t.not(two.membership.view(), null)
        return two.membership.serfPid !== before && two.membership.serfPid
      })
      await waitFor('the RPC to answer', () => two.membership.join(['127.0.0.1:7946']))
      await Promise.all([one, two].map(host => sees(host, 'h1 alive 3, h2 alive 3')))
    }
  })

  t.test('a Serf that outlived its agent is adopted by the next one', async t => {
    const dataDir = directory(t)
    const pid = await orphan(dataDir)
    const next = await start(t, 1, { dataDir })
    t.equal(next.membership.serfPid, pid)
    t.equal(shown(next), 'h1 alive 3')
    process.kill(pid, 'SIGKILL')
    await waitFor('the adopted Serf to be replaced', () => next.membership.serfPid !== pid)
    await sees(next, 'h1 alive 3')
  })

  t.test('a Serf is adopted even when the saved pid is missing or stale', async t => {
    for (const stale of [null, '999999999\n', `${process.pid}\n`]) {
      const dataDir = directory(t)
      const pid = await orphan(dataDir)
      const pidFile = join(dataDir, 'serf/serf.pid')
      if (stale === null) rmSync(pidFile)
      else writeFileSync(pidFile, stale)
      const next = await start(t, 1, { dataDir })
      t.equal(next.membership.serfPid, pid)
      t.equal(readFileSync(pidFile, 'utf8').trim(), `${pid}`, 'the pid is saved')
      await next.membership.stop()
    }
  })

  t.test('with a token, the RPC serves the agent and those who have the token', async t => {
    const { membership } = await start(t, 1, { rpcAuth: 'the token' })
    t.match(membership.view()?.members, [{ name: 'h1' }])
    const members = async (env: NodeJS.ProcessEnv): Promise<readonly unknown[]> => {
      const child = spawn('serf', ['members'], { stdio: 'ignore', env: { ...process.env, ...env } })
      return once(child, 'exit')
    }
    t.strictSame(await members({}), [1, null], 'not a plain command')
    t.strictSame(await members({ SERF_RPC_AUTH: 'another' }), [1, null])
    t.strictSame(await members({ SERF_RPC_AUTH: 'the token' }), [0, null])
    const stranger = await SerfRpc.open({ port: 7_373, clock: systemClock })
    t.teardown(() => stranger.close())
    await t.rejects(stranger.members(), { code: 'ERR_SERF' })
    await t.rejects(stranger.leave(), { code: 'ERR_SERF' })
  })

  t.test('a running Serf with another configuration is replaced', async t => {
    const dataDir = directory(t)
    const pid = await orphan(dataDir)
    const next = await start(t, 1, { dataDir, encryptKey: Buffer.alloc(32, 9) })
    t.not(next.membership.serfPid, pid)
  })

  t.test('a failed start names its cause', async t => {
    await start(t, 1)
    const taken = new Membership({ ...optionsOf(2, directory(t)), rpcPort: 7_373 })
    await t.rejects(taken.start(), { code: 'ERR_SERF', message: /rpcPort: another serf \(h1\)/ })
    const missing = new Membership({ ...optionsOf(2, directory(t)), binary: '/nowhere/serf' })
    await t.rejects(missing.start(), { code: 'ERR_SERF', field: 'serf.binary' })
  })

  t.test('a misbehaving Serf is retried, over one connection at a time', async t => {
    const dataDir = directory(t)
    const binary = join(dataDir, 'bad-serf')
    const script = join(import.meta.dirname, 'bad-serf.ts')
    writeFileSync(binary, `#!/bin/sh\nexec "${process.execPath}" "${script}" "$@"\n`)
    chmodSync(binary, 0o700)
    const { membership } = await start(t, 1, { dataDir, binary })
    t.match(membership.view()?.members, [{ name: 'h1' }])
    const count = JSON.parse(readFileSync(join(dataDir, 'serf/connections.json'), 'utf8')) as { atOnce: number }
    // A closing connection and the next one may overlap.
    t.ok(count.atOnce <= 2, `${count.atOnce} connections at once`)
  })
}
