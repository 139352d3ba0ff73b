// The agent's ports on loopback: whose processes may connect. setpriv(1) runs a client as another user.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { passDone } from '../lab/pass-done.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { cannotRun } from '../lab/requirements.ts'
import { runPass, type Look } from '#overlay/pass.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const [RPC, ZMQ, OTHER] = [7373, 30_029, 8_080]
const [NOBODY, FRIEND] = [65_534, 1_234]

const SERVE = `
import socket, sys, select
ss = [socket.create_server(('', int(p))) for p in sys.argv[1:]]
print('up', flush=True)
while True:
    for s in select.select(ss, [], [])[0]:
        c, _ = s.accept(); c.sendall(b'yes'); c.close()
`
const ASK = `
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3); print(s.recv(9).decode())
except OSError as e: print(type(e).__name__)
`

async function serve(t: Test, { namespace }: LabHost): Promise<void> {
  const args = ['netns', 'exec', namespace, '/usr/bin/python3', '-c', SERVE, ...[RPC, ZMQ, OTHER].map(String)]
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
}

async function ask({ namespace }: LabHost, user: number, port: number, address = '127.0.0.1'): Promise<string> {
  const as = ['setpriv', `--reuid=${user}`, '--clear-groups', '/usr/bin/python3', '-c', ASK, address, `${port}`]
  return (await run('ip', ['netns', 'exec', namespace, ...as], { timeoutMs: 30_000 })).stdout.trim()
}

t.test('the ports on loopback answer root and the configured users, and reset everybody else', { skip }, async t => {
  const lab = await Lab.create({ hosts: 1 })
  t.teardown(() => lab.destroy())
  const host = lab.host(1)
  await serve(t, host)
  const driver = LinuxDriver.open({ underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock })
  t.teardown(() => driver.close())
  t.equal(await ask(host, NOBODY, ZMQ), 'yes', 'open before')
  t.equal(
    await driver.setDoors([
      { port: RPC, users: [0] },
      { port: ZMQ, users: [0, FRIEND] }
    ]),
    null
  )
  for (const [user, port, answer] of [
    [0, RPC, 'yes'],
    [0, ZMQ, 'yes'],
    [FRIEND, ZMQ, 'yes'],
    [FRIEND, RPC, 'ConnectionRefusedError'],
    [NOBODY, RPC, 'ConnectionRefusedError'],
    [NOBODY, ZMQ, 'ConnectionRefusedError'],
    [NOBODY, OTHER, 'yes']
  ] as const) {
    t.equal(await ask(host, user, port), answer, `user ${user}, port ${port}`)
  }
  t.equal(await ask(host, NOBODY, ZMQ, '127.0.0.2'), 'ConnectionRefusedError', 'by any address of loopback')

  const gateways = (): never => {
    throw new Error('not asked for')
  }
  const look: Look = {
    scope: null,
    trust: false,
    mayRemove: true,
    desired: { host: () => ({ networks: new Map(), peers: new Map() }), gateways }
  }
  const filters = driver.parts.filter(({ concern }) => concern === 'filter')
  t.strictSame(passDone(await runPass(filters, look)), [], 'a pass finds it right')
  await host.nft(['delete table inet vxmesh_doors'])
  t.equal(await ask(host, NOBODY, ZMQ), 'yes', 'somebody deleted it')
  t.strictSame(passDone(await runPass(filters, look)), ['install inet vxmesh_doors with 2 elements'])
  t.equal(await ask(host, NOBODY, ZMQ), 'ConnectionRefusedError', 'the pass restores it')
})

t.test(
  'a user that is not root cannot change Serf: leave, keys, tags, join and force-leave are refused',
  { skip, timeout: 120_000 },
  async t => {
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [server, client] = await lab.addServerAndClient()
    const serf = (user: number, ...argv: readonly string[]): ReturnType<typeof run> =>
      server.exec('setpriv', `--reuid=${user}`, '--clear-groups', 'serf', ...argv)
    const key = Buffer.alloc(32, 7).toString('base64')
    t.match(await serf(0, 'members'), { exitCode: 0, stdout: /alive/ }, 'root reads')
    const keys = await serf(0, 'keys', '-list')
    t.equal(keys.exitCode, 0)
    t.equal((await serf(0, 'join', client.address)).exitCode, 0, 'root’s plain join works')
    for (const argv of [
      ['leave'],
      ['keys', '-list'],
      ['keys', `-install=${key}`],
      ['keys', `-use=${key}`],
      ['keys', `-remove=${key}`],
      ['tags', '-set', 'role=server'],
      ['join', '192.0.2.99'],
      ['force-leave', client.name],
      ['members'],
      ['monitor'],
      ['event', 'deploy']
    ]) {
      const refused = await serf(NOBODY, ...argv)
      t.match(
        refused,
        { exitCode: 1, stdout: /^Error connecting to Serf agent: .*connection refused$/ },
        `serf ${argv.join(' ')}`
      )
    }
    t.equal((await serf(0, 'keys', '-list')).stdout, keys.stdout)
    const roles = (await server.members()).map(({ name, status, role }) => ({ name, status, role }))
    t.same(roles, [
      { name: server.name, status: 'alive', role: 'server' },
      { name: client.name, status: 'alive', role: 'client' }
    ])
  }
)
