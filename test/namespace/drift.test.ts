// Another program deletes and edits our kernel objects at random, next to foreign objects of similar kinds and names:
// ours are repaired within 10 s, foreign ones are untouched, and status counts the repairs.

import t from 'tap'
import type { NetworkView } from '#model/views.ts'
import { CHAOS, CHAOS_TIMEOUT } from '../lab/chaos.ts'
import type { LabHost } from '../lab/host.ts'
import { ipBatch } from '../lab/kernel.ts'
import { differences, expectOracle, readKernel } from '../lab/oracle.ts'
import { bridgeOf, tunnelOf } from '../lab/oracle-view.ts'
import { waitFor, waitForState } from '../lab/wait.ts'
import { Random } from '../sim/random.ts'
import { meshLab, nth } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

t.setTimeout(CHAOS_TIMEOUT)

/** Foreign objects of similar kinds and names. */
const FOREIGN = [
  'link add vb0000 type bridge',
  'link add vb00ffff type bridge',
  'link add vx00fffe type vxlan id 77 local 192.0.2.1 dstport 4790 nolearning',
  'link add vx-other type vxlan id 78 local 192.0.2.1 dstport 4791 nolearning',
  'link add ve0123456789abc type veth peer name peer0',
  'link add vecafe type veth peer name peer1',
  'link add vxr-00ffff type veth peer name peer2',
  'link add br-mine group 7764077 type bridge',
  'link add br-gone group 7764078 type bridge',
  'link set vx00fffe master vb00ffff',
  'link set br-mine alias vxmesh',
  'link set vb00ffff up',
  'addr add 10.99.0.1/24 dev vb00ffff',
  'neigh add 10.99.0.9 dev vb00ffff lladdr 02:00:00:00:00:09 nud permanent',
  'route add 10.98.0.0/24 via 10.99.0.9',
  'rule add pref 4789 to 10.97.0.0/24 lookup 100'
]

t.test('drift is repaired within 10 s, and nothing foreign is touched', { skip: cannotRun() }, async t => {
  const { lab } = await meshLab(t, { servers: 2, attached: 2 })
  const host = lab.host(1)
  await host.api.call('POST', '/v1/networks', { name: 'blue', subnet: '10.1.0.0/24' })
  const more = await lab.containers(['b1', 'b2', 'r3'])
  for (const [n, container] of more.entries()) {
    await lab.host((n % 2) + 1).attach(container, n === 2 ? 'red' : 'blue')
  }
  await ipBatch(FOREIGN, host.namespace)
  const bridge = (line: string): Promise<unknown> => run('bridge', ['-n', host.namespace, ...line.split(' ')])
  await bridge('fdb append 00:00:00:00:00:00 dev vx00fffe dst 192.0.2.200 self')
  await bridge('fdb add 02:00:00:00:00:0a dev vx00fffe dst 192.0.2.201 self static')
  await bridge('fdb add 02:00:00:00:00:0b dev ve0123456789abc self permanent')
  await host.nft(['add table inet vxmesher', 'add chain inet vxmesher input { type filter hook input priority 0; }'])
  const foreign = async (): Promise<string> => JSON.stringify(await foreignState(host))
  await expectOracle(lab)
  const before = await foreign()
  const seed = Number(process.env['VXMESH_SEED'] ?? process.pid)
  const random = new Random(seed)
  t.comment(`VXMESH_SEED=${seed} repeats these edits`)
  let slowest = 0
  const batch = Math.max(1, Math.round(CHAOS.drifts / 20))
  for (let done = 0; done < CHAOS.drifts; done += batch) {
    for (let n = 0; n < batch; n++) await damage(host, random)
    const since = performance.now()
    await expectOracle(lab, { timeoutMs: 10_000 })
    slowest = Math.max(slowest, performance.now() - since)
  }
  t.comment(`${CHAOS.drifts} edits, slowest repair of ${batch} at once ${Math.round(slowest)} ms`)
  t.equal(await foreign(), before, 'foreign objects are untouched')
  const { overlay } = await waitFor('status is clean', async () => {
    const status = await host.status()
    return status.overlay.drift === 0 ? status : null
  })
  t.strictSame(overlay.degraded, [])
  const repairs = Object.values(overlay.repaired).reduce((sum, count) => sum + count, 0)
  t.ok(repairs >= CHAOS.drifts / 4, `status counts repairs by kind: ${JSON.stringify(overlay.repaired)}`)
})

t.test('networks and endpoints that somebody else damages', { skip: cannotRun() }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 2, attached: 2 })
  const host = lab.host(1)

  await t.test(
    'a network that cannot be repaired reports why, affects no other, and is repaired once it can be',
    async t => {
      const blue = (await host.api.call('POST', '/v1/networks', { name: 'blue', subnet: '10.1.0.0/24' })) as NetworkView
      const other = await lab.container('b1')
      await host.attach(other, 'blue')
      await expectOracle(lab)

      await ipBatch([`link del ${nth(endpoints, 1).hostInterface}`], host.namespace)
      await waitFor('the interface is back in its container', async () => (await nth(containers, 1).link()) !== null)
      await expectOracle(lab)
      t.equal((await nth(containers, 1).ping(nth(endpoints, 2).address, { count: 3 })).received, 3)
      await waitForState('the repair is counted', () => host.status(), {
        overlay: { repaired: { 'endpoint-attach': 1 } }
      })

      const taken = `link add taken type vxlan id ${blue.vni} local ${host.address} dstport 4789`
      // The agent may recreate its device between the two commands.
      await waitFor('the VNI is taken', async () => {
        await ipBatch([`link del ${tunnelOf(blue)}`, taken], host.namespace)
        return true
      })
      const overlay = await waitFor('blue is degraded', async () => {
        const status = await host.status()
        return status.overlay.degraded.length > 0 ? status.overlay : null
      })
      t.match(overlay.degraded, [/^network blue: create VXLAN device .*already exists/], 'with the kernel’s message')
      t.ok(
        overlay.degraded.every(line => line.startsWith('network blue: ')),
        'red is not degraded'
      )
      await ipBatch([`link set ${tunnelOf(nth(endpoints, 1))} down`], host.namespace)
      const isOfBlue = (text: string): boolean => text.includes(tunnelOf(blue)) || text.includes(`${blue.vni} by `)
      await waitFor('red is repaired nevertheless', async () => {
        const found = await differences([host])
        return found.length > 0 && found.every(isOfBlue)
      })
      await ipBatch(['link del taken'], host.namespace)
      await expectOracle(lab, { timeoutMs: 30_000 })
      await waitFor('nothing is degraded', async () => (await host.status()).overlay.drift === 0)
    }
  )

  await t.test('an attach that is faster than the notification of a change still finds its network', async t => {
    const [two, three] = await lab.containers(['c3', 'c4'])
    if (two === undefined || three === undefined) throw new Error('no containers')
    await expectOracle(lab)
    await ipBatch([`link del ${bridgeOf(nth(endpoints, 1))}`], host.namespace)
    const { address } = await host.attach(two, 'red')
    t.equal((await two.ping(nth(endpoints, 2).address, { count: 3 })).received, 3, 'a network whose bridge was deleted')
    t.ok(address)
    await expectOracle(lab)

    await host.api.call('DELETE', '/v1/networks/red?force=true')
    await host.api.call('POST', '/v1/networks', { name: 'red', subnet: '10.9.0.0/24' })
    const again = await host.attach(three, 'red')
    t.match(again.address, /^10\.9\.0\./, 'a network that replaced another of the same name')
    await expectOracle(lab)
  })
})

/** One random deletion or edit. It may fail because an earlier one deleted its object. */
async function damage(host: LabHost, random: Random): Promise<void> {
  const { links, fdb, neighbours } = await readKernel(host.namespace)
  const ours = links.filter(link => link.ifalias?.startsWith('vxmesh ') === true)
  const names = new Set(ours.map(link => link.ifname))
  const bridges = ours.filter(link => link.linkinfo?.info_kind === 'bridge')
  const [link, port] = [
    pick(random, ours),
    pick(
      random,
      ours.filter(l => l.linkinfo?.info_kind !== 'bridge')
    )
  ]
  const entry = pick(
    random,
    fdb.filter(e => names.has(e.ifname) && (e.dst !== undefined || e.state === 'static'))
  )
  const neighbour = pick(
    random,
    neighbours.filter(n => names.has(n.dev))
  )
  const tunnel = pick(
    random,
    ours.filter(l => l.linkinfo?.info_kind === 'vxlan')
  )
  const low = random.below(200)
  const table = entry?.master === undefined ? 'self' : 'master'
  const edits: (string | undefined)[] = [
    link && `ip link del ${link.ifname}`,
    link && `ip link set ${link.ifname} down`,
    link && `ip link set ${link.ifname} mtu ${1_200 + low}`,
    link && `ip link set ${link.ifname} group 5`,
    port && `ip link set ${port.ifname} nomaster`,
    port && `ip link set ${port.ifname} type bridge_slave learning on flood on`,
    bridges[0] && `ip link set ${bridges[0].ifname} address 02:00:00:00:01:0${low % 10}`,
    tunnel && `ip link set ${tunnel.ifname} type vxlan learning`,
    entry &&
      `bridge fdb del ${entry.mac} dev ${entry.ifname}${entry.dst === undefined ? '' : ` dst ${entry.dst}`} ${table}`,
    tunnel && `bridge fdb append 00:00:00:00:00:00 dev ${tunnel.ifname} dst 192.0.2.${low + 20} self`,
    tunnel &&
      `bridge fdb add 02:00:00:00:02:0${low % 10} dev ${tunnel.ifname} dst 192.0.2.${low + 20} self master static`,
    tunnel && entry && `bridge fdb replace ${entry.mac} dev ${tunnel.ifname} dst 192.0.2.${low + 20} self static`,
    neighbour && `ip neigh del ${neighbour.dst} dev ${neighbour.dev}`,
    neighbour &&
      `ip neigh replace ${neighbour.dst} dev ${neighbour.dev} lladdr 02:00:00:00:03:0${low % 10} nud permanent`,
    bridges[0] && `ip neigh add 10.1.0.${low + 50} dev ${bridges[0].ifname} lladdr 02:00:00:00:04:00 nud permanent`
  ]
  const [tool = '', ...args] = (
    pick(
      random,
      edits.filter(edit => edit !== undefined)
    ) ?? ''
  ).split(' ')
  if (tool !== '') await run(tool, ['-n', host.namespace, ...args])
}

function pick<T>(random: Random, items: readonly T[]): T | undefined {
  return items[random.below(items.length)]
}

/** Everything foreign in the host's namespace, as the tools print it. */
async function foreignState(host: LabHost): Promise<unknown> {
  const { links, fdb, neighbours } = await readKernel(host.namespace)
  const foreign = new Set(links.filter(l => l.ifalias?.startsWith('vxmesh ') !== true).map(l => l.ifname))
  const rest = await Promise.all(
    ['addr show', 'route show', 'rule show'].map(async what =>
      (await host.exec('ip', '-4', '-o', ...what.split(' '))).stdout.replaceAll(/(valid|preferred)_lft \S+/g, '')
    )
  )
  return {
    links: links
      .filter(l => foreign.has(l.ifname))
      .map(l => [l.ifname, l.address, l.mtu, l.master, l.group, l.ifalias]),
    fdb: fdb.filter(e => foreign.has(e.ifname) && e.ifname !== 'eth0'),
    neighbours: neighbours.filter(n => foreign.has(n.dev) && n.state.includes('PERMANENT')),
    nft: (await host.exec('nft', 'list', 'table', 'inet', 'vxmesher')).stdout,
    rest
  }
}
