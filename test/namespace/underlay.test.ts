// Changes below the overlay: the underlay's MTU, a host's address, a reboot, a host that claims another's VTEP.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { EndpointView } from '#model/views.ts'
import { CHAOS_IN_FULL } from '../lab/chaos.ts'
import { bare } from '../lab/container.ts'
import { ipBatch } from '../lab/kernel.ts'
import { differences, expectOracle, readKernel } from '../lab/oracle.ts'
import { TEST_TIMEOUT_MS, waitFor, waitForState } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

t.setTimeout(TEST_TIMEOUT_MS)
const skip = cannotRun()
/** IPv4 and ICMP headers. */
const PING_HEADERS = 28

// One lab for all of them: each leaves three members with a container each.
t.test('changes below the overlay', { skip }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 3, attached: 3 })
  const hosts = lab.hosts.slice(0, 3)

  await t.test('the overlay MTU is 50 bytes below the underlay’s and follows its changes', async t => {
    const [one, other] = [nth(containers, 1), bare(nth(endpoints, 2).address)]
    const whole = async (size: number): Promise<number> =>
      (await one.ping(other, { count: 3, size: size - PING_HEADERS, dontFragment: true, waitMs: 300 })).received
    for (const underlayMtu of [1500, 1450, 9000, 1400]) {
      const mtu = underlayMtu - 50
      await lab.setUnderlayMtu(underlayMtu)
      for (const container of containers) {
        await waitFor(`${container.name} follows to ${mtu}`, async () => (await container.link())?.mtu === mtu)
      }
      await expectOracle(lab)
      t.equal(await whole(mtu), 3, `underlay ${underlayMtu}: exactly ${mtu} bytes pass`)
      t.equal(await whole(mtu + 1), 0, `underlay ${underlayMtu}: one more byte does not`)
      const { stdout, stderr } = await one.exec('ping', '-c1', '-W1', '-Mdo', `-s${mtu + 1 - PING_HEADERS}`, other)
      t.match(`${stdout}${stderr}`, /[Mm]essage too long/, `underlay ${underlayMtu}: the sender gets an error`)
      const [view] = (await lab.host(1).api.call('GET', '/v1/endpoints/c1')) as EndpointView[]
      t.equal(view?.mtu, mtu, 'the API reports it')
    }
    const host = lab.host(1)
    await host.stopAgent()
    await lab.setUnderlayMtu(1420)
    await host.startAgent()
    await host.waitReady()
    await waitFor('a change while the agent was stopped is followed, too', async () => (await one.link())?.mtu === 1370)
    await lab.setUnderlayMtu(1500)
    await expectOracle(lab)
  })

  await t.test("a host that claims another's VTEP is refused, and traffic is not affected", async t => {
    // It cannot reach the host whose address it has taken. That must not be the leader, which is to refuse it.
    const { leader } = (await lab.host(1).status()).raft
    const victim = leader === 'h2' ? 3 : 2
    const vtep = lab.host(victim).address
    const before = await readKernel(lab.host(1).namespace)
    const thief = await lab.addHost({ role: 'client', join: [lab.host(1).address], vtep })
    await ipBatch([`addr add ${vtep}/32 dev lo`], thief.namespace)
    await thief.startAgent()
    await waitFor('the thief is a member', async () => (await lab.host(1).members()).length === 4)
    await waitFor('it logs the reason', async () => {
      // A busy machine may have changed the leader.
      const now = (await lab.host(1).status()).raft.leader
      if (now === `h${victim}`) await lab.host(1).cli('raft', 'transfer', 'h1')
      return thief.logTail(2_000).includes(`belongs to host h${victim}`)
    })
    const status = await waitFor('its API answers', () => thief.status())
    t.equal(status.ready, false)
    const stranger = await lab.container('stranger')
    await t.rejects(thief.attach(stranger, 'red'), { code: 'ERR_HOST_NOT_REGISTERED' })
    const after = await readKernel(lab.host(1).namespace)
    t.strictSame(after.fdb, before.fdb, 'no entry has changed')
    t.equal((await nth(containers, 1).ping(nth(endpoints, victim).address, { count: 5 })).received, 5)
    await expectOracle(lab, { hosts })
    await thief.killHost()
  })

  await t.test('after a reboot the agent restores the kernel and reports lost containers', async t => {
    const host = lab.host(2)
    await host.killHost()
    const { links } = await readKernel(host.namespace)
    await nth(containers, 2).remove()
    const ours = links.filter(link => link.ifalias?.startsWith('vxmesh ') === true).map(link => link.ifname)
    await ipBatch(
      ours.filter(name => !name.startsWith('ve')).map(name => `link del ${name}`),
      host.namespace
    )
    const newBoot = join(host.dir, 'boot_id')
    await writeFile(newBoot, '11111111-2222-4333-8444-555555555555\n')
    await host.linkUp()
    await host.startAgent({ bootIdFile: newBoot })
    await host.waitReady(30_000)
    const status = await waitFor('the network reports the lost interface', async () => {
      const { overlay } = await host.status()
      return overlay.degraded.length > 0 ? overlay : null
    })
    t.match(status.degraded.join('\n'), /network red: .*c2\/eth0.*rebooted since/)
    t.ok(status.drift > 0)
    const wrong = await waitFor('only the lost interface is missing', async () => {
      const found = await differences([host])
      return found.every(text => text.includes(nth(endpoints, 2).hostInterface)) ? found : null
    })
    t.not(wrong.length, 0)
    await host.api.call('DELETE', '/v1/endpoints/c2')
    const again = await lab.container('again')
    const view: EndpointView = await host.attach(again, 'red')
    t.equal((await nth(containers, 1).ping(view.address, { count: 3 })).received, 3)
    await expectOracle(lab, { hosts })
    await waitForState('no network is degraded', () => host.status(), { overlay: { degraded: [] } })
  })

  await t.test('a host that returns with another address keeps its containers reachable', async t => {
    const host = lab.host(3)
    const ping = async (): Promise<boolean> =>
      (await nth(containers, 1).ping(nth(endpoints, 3).address, { count: 1, waitMs: 300 })).received === 1
    t.ok(await waitFor('its container answers', ping))
    await host.stopAgent()
    await ipBatch(['addr del 192.0.2.3/24 dev eth0', 'addr add 192.0.2.33/24 dev eth0'], host.namespace)
    await host.configure({ clusterKeyFile: lab.keyFile, bootstrapExpect: 3, join: ['192.0.2.1'], bind: '192.0.2.33' })
    const since = performance.now()
    await host.startAgent()
    await waitFor('its container answers at the new VTEP', ping, { timeoutMs: 15_000 })
    t.comment(`reachable ${Math.round(performance.now() - since)} ms after its start`)
    await host.waitReady(60_000)
    const { fdb } = await readKernel(lab.host(1).namespace)
    t.strictSame(
      fdb.filter(e => e.dst === '192.0.2.3').map(e => e.mac),
      [],
      'no entry points to the old address'
    )
    // Serf accepts a new address for a name only 30 s after it was declared failed: no flood entries until then.
    if (CHAOS_IN_FULL) {
      const alive = async (): Promise<boolean> =>
        (await lab.host(1).members()).every(m => m.status === 'alive' || m.name === 'h4')
      await waitFor('all see it alive', alive, { timeoutMs: 120_000 })
    }
    await expectOracle(lab, { hosts })
  })
})
