// The Debian package: built, installed with dpkg on its own machine, run as its unit says, upgraded under traffic, removed
// and purged.

import { closeDatapath } from '#overlay/bpf/datapath.ts'
import { openDatapath } from '#overlay/bpf/open.ts'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'
import type { StatusView } from '#model/views.ts'
import { bare } from '../lab/container.ts'
import { startFlow } from '../lab/flow.ts'
import { kill, must, pidsIn } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { DebianMachine } from '../lab/debian-machine.ts'
import { routersOf } from '../lab/routers.ts'
import { LabServiceManager } from '../lab/service-manager.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { deviceIndexes } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

const PACKAGE = resolve(import.meta.dirname, '../../scripts/package')
const RUNTIME = resolve(import.meta.dirname, '../../bin/runtime.sh')
const [OLD, NEW] = ['0.1.0~test1', '0.1.0~test2']

t.setTimeout(TEST_TIMEOUT_MS)

/** The driver that this kernel can have, which the unit's restrictions must leave to it. */
const FASTEST = canRunPrograms() ? 'bpf' : 'linux'

function canRunPrograms(): boolean {
  try {
    closeDatapath(openDatapath(null))
    return true
  } catch {
    return false
  }
}

t.test(
  'the package: install, start, reload, upgrade under traffic, remove and purge',
  { skip: cannotRun() },
  async t => {
    const folder = t.testdir()
    const [old, update, again] = await Promise.all([
      build(OLD, folder),
      build(NEW, folder),
      build(OLD, join(folder, 'again'))
    ])
    t.equal(hash(again), hash(old), 'a commit builds one package, byte by byte')

    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const host = await lab.addHost({ bootstrapExpect: 1 })
    const machine = await DebianMachine.start(host, folder)
    const systemd = await LabServiceManager.start(machine, host.logFile)
    t.teardown(() => systemd.close())
    const vxmesh = (...argv: readonly string[]): Promise<string> => machine.must('vxmesh', ...argv)
    const status = async (): Promise<StatusView> => JSON.parse(await vxmesh('status', '-o', 'json')) as StatusView
    const ready = (): Promise<StatusView> =>
      waitFor('vxmesh status reports ready', async () => {
        const now = await status()
        return now.ready && now.raft.leader !== null ? now : false
      })
    const install = (file: string): Promise<string> =>
      machine.must('dpkg', '--install', `/mnt/${file.split('/').at(-1)}`)

    // This machine, the lower file system, may have files of vxmesh itself.
    const places = ['/etc', '/usr', '/var', '/lib', '/opt', '/run']
    const files = (): Promise<string> => machine.must('find', ...places, '-xdev', '-name', '*vxmesh*')
    const before = await files()
    t.match(await install(old), /systemctl enable --now vxmesh/, 'it explains the next steps')
    t.equal(await vxmesh('version'), `vxmesh ${OLD}`)
    t.notOk(
      systemd.requests.some(asked => asked.startsWith('start')),
      'nothing is started without settings'
    )
    t.equal(await machine.must('dpkg', '--verify', 'vxmesh'), '', 'its files match their checksums')
    t.equal(await machine.must('stat', '-c', '%a', '/etc/vxmesh'), '700')
    t.equal((await machine.run('man', '-l', '--warnings', '/usr/share/man/man8/vxmesh.8.gz')).exitCode, 0)
    t.equal((await machine.run('systemctl', 'start', 'vxmesh.service')).exitCode, 1, 'without bind it does not start')
    t.match(host.logTail(3), /bind: is required \[ERR_CONFIG\]/)

    const settings = (level: string, port = 7946): Promise<void> =>
      machine.write(
        '/etc/vxmesh/vxmesh.yaml',
        `name: h1\nrole: server\nbootstrapExpect: 1\nbind: ${host.address}\nlog: {level: ${level}}\nserf: {port: ${port}}\n`
      )
    await settings('info')
    await machine.write('/etc/vxmesh/cluster.key', readFileSync(lab.keyFile, 'utf8'), 0o600)
    await machine.must('systemctl', 'start', 'vxmesh.service')
    t.match(await ready(), { host: 'h1', version: OLD, ready: true })
    t.match((await status()).overlay, { driver: FASTEST, guard: FASTEST === 'bpf' ? 'bpf' : 'nft' })
    const count = (line: string): number => systemd.notify.lines.filter(received => received === line).length
    await waitFor('the watchdog is fed', () => count('WATCHDOG=1') > 0)
    t.equal(count('READY=1'), 1)
    await limits(t, machine, systemd)

    // The other host runs from the checkout, so bundle and checkout talk to each other.
    const other = await lab.addHost({ role: 'client', join: [host.address] })
    await other.startAgent()
    await other.waitReady()
    const api = machine.api()
    await api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/24' })
    const [here, there] = await lab.containers(['here', 'there'])
    if (here === undefined || there === undefined) throw new Error('no containers')
    await vxmesh('endpoint', 'attach', '--network', 'red', '--container-id', here.name, '--netns', here.netns)
    const { address } = await other.attach(there, 'red')
    await vxmesh('cni', 'install')
    const devices = await deviceIndexes(host)
    t.equal((await routersOf([host.namespace])).length, 1)

    await settings('debug', 7999)
    await machine.must('systemctl', 'reload', 'vxmesh.service')
    t.equal(await vxmesh('reload'), 'restart  serf.port', 'the level is changed, the port needs a restart')
    await settings('loud')
    t.match(await machine.run('systemctl', 'reload', 'vxmesh.service'), {
      exitCode: 2,
      stdout: /log.level: must be one of .* \(from \/etc\/vxmesh\/vxmesh.yaml:\d+\)/
    })
    kill(systemd.mainPid ?? 0, 'SIGHUP')
    await waitFor(
      'SIGHUP reloads, too, and a bad file does not end the agent',
      () => count('READY=1') === 2 && count('RELOADING=1') === 1
    )
    t.equal((await ready()).ready, true)
    await settings('info')

    const flow = await startFlow({ from: here, to: there, address: bare(address), packetsPerSecond: 1_000 })
    const pid = systemd.mainPid
    await install(update)
    t.match(await ready(), { version: NEW, networks: 1, endpoints: 2, overlay: { drift: 0, degraded: [] } })
    t.not(systemd.mainPid, pid)
    t.ok(count('STOPPING=1') >= 1)
    t.same(await deviceIndexes(host), devices, 'no device was recreated')

    await machine.must('dpkg', '--remove', 'vxmesh')
    t.equal(systemd.mainPid, null, 'the agent has ended')
    t.notOk(existsSync(machine.path('/usr/lib/vxmesh')) || existsSync(machine.path('/usr/bin/vxmesh')))
    t.ok(
      existsSync(machine.path('/var/lib/vxmesh/identity.key')) && existsSync(machine.path('/etc/vxmesh/cluster.key'))
    )
    t.same(await deviceIndexes(host), devices, 'containers keep their networks')
    const report = await flow.stop()
    t.comment(`upgrade and removal: ${report.sent} packets sent, longest gap ${report.longestGapMs} ms`)
    t.ok(report.sent > 500 && report.tcpAlive)
    t.equal(report.lost, 0, `no packet of ${report.sent} is lost`)

    await machine.must('dpkg', '--purge', 'vxmesh')
    await waitFor('the devices are gone', async () => (await deviceIndexes(host)).length === 0)
    t.same(await routersOf([host.namespace]), [])
    t.notMatch(await machine.must('nft', 'list', 'tables'), /vxmesh/)
    t.same(await files(), before, 'no file is left')
    const left = pidsIn(host.namespace).map(pid => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
    t.same(left, ['sleep\0infinity\0'], 'no process of the package is left')
  }
)

/** The restrictions of the unit and of the wrapper script apply to the running agent. */
async function limits(t: Test, machine: DebianMachine, systemd: LabServiceManager): Promise<void> {
  const { mainPid } = systemd
  const facts = readFileSync(`/proc/${mainPid ?? 0}/status`, 'utf8')
  t.match(facts, /NoNewPrivs:\t1/)
  t.match(facts, /Seccomp:\t2\n/, 'with a filter of system calls')
  t.match(facts, /CapEff:\t[0-9a-f]{16}\n/)
  t.notMatch(facts, /CapEff:\t000001ffffffffff/, 'it does not have every capability')
  t.match(readFileSync(`/proc/${mainPid ?? 0}/limits`, 'utf8'), /Max core file size +0 +0 /)
  const flags = /NODE_FLAGS='(.+)'/.exec(readFileSync(RUNTIME, 'utf8'))?.[1]?.split(' ') ?? []
  t.ok(flags.length > 0)
  const words = readFileSync(`/proc/${mainPid ?? 0}/cmdline`, 'utf8').split('\0')
  t.same(words.slice(1, 1 + flags.length), flags, 'Node runs with the same flags as in a checkout')
  t.match(readFileSync(`/proc/${mainPid ?? 0}/environ`, 'utf8'), /UV_THREADPOOL_SIZE=8\0/)
  const serf = readFileSync(machine.path('/var/lib/vxmesh/serf/serf.pid'), 'utf8').trim()
  t.notMatch(readFileSync(`/proc/${serf}/environ`, 'utf8'), /NOTIFY_SOCKET/, 'Serf cannot notify in the agent’s name')
}

async function build(version: string, output: string): Promise<string> {
  const args = ['--uncompressed', '--version', version, '--output', output]
  return (await must(PACKAGE, args, { timeoutMs: 120_000 })).trim()
}

function hash(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}
