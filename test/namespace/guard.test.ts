// The guard on a real kernel: installed, adopted, repaired, removed. nft(8) is the oracle.

import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { detachRequest } from '#overlay/driver.ts'
import { Guard } from '#overlay/filter/guard.ts'
import { desired } from '#overlay/plan/network/desired.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { makeEndpoint, peerAt } from '../overlay/fixtures.ts'
import { ordinary, partyOf } from '../lab/packets/attacks.ts'
import { mark } from '../lab/packets/frames.ts'
import { Listener, Sender } from '../lab/packets/raw-socket.ts'
import { countReplies, startPing } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'
import {
  address,
  attach,
  blue,
  containerOf,
  driverOf,
  endpointOf,
  openGuardLab,
  input,
  keepFilters,
  link,
  nft,
  openDriver,
  pass,
  PORT,
  red,
  ruleset,
  setGuard
} from './guard-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

const skip = cannotRun()
const PAIR = { a: [red, 1, '10.1.0.2'], b: [red, 2, '10.1.0.3'] } as const
const FOREIGN = `table inet vxmesh {
  chain c { type filter hook input priority 5; policy accept; }
}
table bridge others {
  set ports { type ifname; elements = { ve0123456789abc }; }
}
table ip vxmesh_other {
  set vteps { type ipv4_addr; elements = { 192.0.2.9 }; }
}`

await t.test('a host that lacks nft or a kernel feature of the tables is refused by name', { skip }, async t => {
  const path = process.env['PATH']
  process.env['PATH'] = '/nonexistent'
  t.teardown(() => (process.env['PATH'] = path))
  const refused = await Guard.open(null, { vtep: parseIpv4('192.0.2.1'), port: PORT }).catch((err: unknown) => err)
  process.env['PATH'] = path
  t.ok(refused instanceof VxmeshError)
  t.match(refused, { code: 'ERR_UNSUPPORTED', field: 'overlay.guard', message: /bridge table vxmesh_ports/ })
  const w = await openGuardLab(t, PAIR)
  const names = new Map((await driverOf(w, 1).features()).map(feature => [feature.name, feature.present]))
  t.equal(names.get('port-security'), true)
  t.equal(names.get('underlay-guard'), true)
})

await t.test('tables are replaced and agents restarted without a lost or a leaked packet', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  await setGuard(w, PORT)
  const [a, b] = [containerOf(w, 'a'), containerOf(w, 'b')]
  const [me, victim] = [endpointOf(w, 'a'), endpointOf(w, 'b')]
  const sender = new Sender(a.netns, (await link(a)).ifindex)
  const listener = Listener.frames(b.netns, (await link(b)).ifindex)
  t.teardown(() => [sender, listener].forEach(socket => socket.close()))
  const forged = ordinary({ mac: me.mac, address: parseIpv4('10.1.0.9') }, partyOf(victim))
  let sent = 0
  const flood = setInterval(() => {
    for (let n = 0; n < 20; n++) for (const frame of forged(mark(1), sent++)) sender.send(frame)
  }, 1)
  t.teardown(() => clearInterval(flood))
  const ping = startPing(a.namespace, address(victim), { count: 400, intervalMs: 5 })
  for (let round = 0; round < 20; round++) {
    await nft(w.lab.host(1), 'add chain bridge vxmesh_ports x\nadd chain inet vxmesh_underlay x')
    await driverOf(w, 1).setGuard(PORT)
    t.equal((await pass(w, 1)).length, 2, 'both tables are replaced')
  }
  const { sent: asked, received } = await ping.result
  clearInterval(flood)
  t.equal(received, asked, `${asked} sent, ${received} answered`)
  t.ok(sent > 1_000, `${sent} forged packets meanwhile`)
  for (const frame of ordinary(partyOf(me), partyOf(victim))(mark(2), 0)) sender.send(frame)
  await waitFor('the last packet', () => listener.count(2) === 1)
  t.equal(listener.count(1), 0, 'no forged packet arrives')
})

// The first changes PATH, the second never yields the processor; the others run side by side, each in a lab of its own.
t.jobs = 4

t.test('a guard that is right is left unchanged, also by a new agent', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  await setGuard(w, PORT)
  const before = await ruleset(w.lab.host(1))
  const { mac } = endpointOf(w, 'a')
  t.match(before, `${mac} . 10.1.0.2`, 'the container is allowed')
  t.match(before, `0x${mac.replaceAll(':', '').replace(/^0+/, '')} . 0xfd000001`, 'in its second family, too')
  t.match(before, '192.0.2.2', 'the other host is allowed')
  t.notMatch(before, '192.0.2.3', 'a host outside of the state is not')
  t.strictSame(await pass(w, 1), [], 'nothing to do')
  const again = openDriver(w.lab.host(1))
  t.teardown(() => again.close())
  await again.setGuard(PORT)
  const wanted = desired(input(w, 1))
  t.strictSame(await keepFilters(again, { wanted, mayRemove: true }), [], 'nothing to do')
})

t.test('any change to the tables is repaired, and nothing foreign is touched', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  const host = w.lab.host(1)
  await nft(host, FOREIGN)
  await setGuard(w, PORT)
  const right = await ruleset(host)
  const { containerId, ifname } = endpointOf(w, 'a')
  const veth = vethName(containerId, ifname)
  const harm = [
    'delete table bridge vxmesh_ports',
    'delete table inet vxmesh_underlay',
    'delete table bridge vxmesh_ports\ndelete table inet vxmesh_underlay',
    'flush chain bridge vxmesh_ports container',
    'flush chain inet vxmesh_underlay input',
    'insert rule bridge vxmesh_ports container accept',
    'insert rule inet vxmesh_underlay vxlan ip saddr 192.0.2.3 accept',
    'add chain inet vxmesh_underlay more { type filter hook output priority 0; policy drop; }',
    'flush set bridge vxmesh_ports ports',
    'flush set bridge vxmesh_ports ports6',
    'flush chain bridge vxmesh_ports icmp6',
    'flush set inet vxmesh_underlay vteps',
    'add element inet vxmesh_underlay vteps { 192.0.2.3, 192.0.2.4 }',
    `add element bridge vxmesh_ports ports { ${veth} . 02:00:00:00:00:01 . 10.1.0.9 }`,
    `add element bridge vxmesh_ports ports6 { ${veth} . 0x020000000001 . 0xfd000001000000000000000000000009 }`,
    `add element bridge vxmesh_ports ports { "eth0" . 02:00:00:00:00:01 . 10.1.0.9 comment "x" }`,
    `table bridge vxmesh_ports { chain prerouting { policy drop; }; }`
  ]
  for (const script of harm) {
    await nft(host, script)
    t.not(await ruleset(host), right, script)
    await pass(w, 1)
    // Recreated tables are listed after the others.
    t.strictSame(tablesOf(await ruleset(host)), tablesOf(right), 'repaired')
  }
  for (const address of ['10.1.0.3', 'fd00:1::3'])
    t.equal(await countReplies(containerOf(w, 'a'), address, { count: 1, waitMs: 1_000 }), 1)
})

t.test('a foreign change to our tables wakes the reconciler', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  await setGuard(w, PORT)
  let woken = 0
  driverOf(w, 1).onChange(() => woken++)
  for (const script of ['delete table bridge vxmesh_ports', 'flush set inet vxmesh_underlay vteps', 'flush ruleset']) {
    const before = woken
    await nft(w.lab.host(1), script)
    await waitFor(`a wake-up after ${script}`, () => woken > before)
    t.not((await pass(w, 1)).length, 0, script)
  }
})

t.test('attach and detach leave nothing behind; a changed address replaces the old binding', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  await setGuard(w, PORT)
  const before = await ruleset(w.lab.host(1))
  const c = await w.lab.container('c')
  for (const host of ['10.1.0.7', '10.1.0.8', '10.1.0.7']) {
    const endpoint = makeEndpoint(red, { container: 'c', host: 1, address: host })
    const containers = new Map([...w.containers, ['c', c]])
    await attach({ ...w, containers }, endpoint)
    const found = (await ruleset(w.lab.host(1))).match(/10\.1\.0\.[78]/g)
    t.strictSame(found, [host], 'it has one binding')
    const found6 = (await ruleset(w.lab.host(1))).match(/0xfd0{5}10{23}[78]/g)
    t.strictSame(found6, [`0xfd000001${'0'.repeat(23)}${host.at(-1)}`], 'in each family')
    for (const other of ['10.1.0.2', 'fd00:1::2'])
      t.equal(await countReplies(c, other, { count: 1, waitMs: 1_000 }), 1, 'it may send from the first packet on')
  }
  await driverOf(w, 1).devices.detach(
    detachRequest(makeEndpoint(red, { container: 'c', host: 1, address: '10.1.0.7' }))
  )
  t.equal(await ruleset(w.lab.host(1)), before)
})

t.test('a state that may be stale removes nothing', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  await setGuard(w, PORT)
  const right = await ruleset(w.lab.host(1))
  const empty = { networks: new Map(), peers: peerAt('192.0.2.2') }
  t.strictSame(await keepFilters(driverOf(w, 1), { wanted: empty, mayRemove: false }), [])
  await nft(w.lab.host(1), 'insert rule bridge vxmesh_ports container accept')
  await keepFilters(driverOf(w, 1), { wanted: empty, mayRemove: false })
  t.strictSame(tablesOf(await ruleset(w.lab.host(1))), tablesOf(right), 'also when the table is replaced')
  await keepFilters(driverOf(w, 1), { wanted: empty, mayRemove: true })
  t.notMatch(await ruleset(w.lab.host(1)), '10.1.0.2')
})

t.test('an agent without any state installs no table that would block everybody', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  await driverOf(w, 1).setGuard(PORT)
  const nothing = { networks: new Map(), peers: new Map() }
  t.strictSame(await keepFilters(driverOf(w, 1), { wanted: nothing, mayRemove: false }), [])
  t.equal(await ruleset(w.lab.host(1)), '')
  const refused = await attach(w, endpointOf(w, 'a')).catch((err: unknown) => err)
  t.match(refused, { code: 'ERR_BUSY' }, 'it refuses an attach')
})

t.test('switched off, both tables are removed and foreign ones stay', { skip }, async t => {
  const w = await openGuardLab(t, PAIR)
  const host = w.lab.host(1)
  await nft(host, FOREIGN)
  const before = await ruleset(host)
  await setGuard(w, PORT)
  await setGuard(w, null)
  t.equal(await ruleset(host), before)
  await setGuard(w, null)
  t.equal(await ruleset(host), before, 'a second time changes nothing')
})

t.test('tenants with the same addresses may each use their own', { skip }, async t => {
  const w = await openGuardLab(t, { ...PAIR, c: [blue, 1, '10.1.0.2'], d: [blue, 2, '10.1.0.4'] })
  await setGuard(w, PORT)
  t.equal(await countReplies(containerOf(w, 'a'), address(endpointOf(w, 'b')), { count: 1, waitMs: 1_000 }), 1)
  t.equal(await countReplies(containerOf(w, 'c'), address(endpointOf(w, 'd')), { count: 1, waitMs: 1_000 }), 1)
})

/** The tables, sorted. */
function tablesOf(text: string): readonly string[] {
  return text
    .split(/^(?=table )/m)
    .map(table => table.trim())
    .sort()
}
