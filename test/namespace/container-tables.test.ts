// A container fills its own tables: routes by the hundred thousand, addresses by the thousand. Attach and CHECK block the event
// loop no longer for that.

import t, { type Test } from 'tap'
import { attachRequest, detachRequest, type AttachRequest } from '#overlay/driver.ts'
import { ipBatch } from '../lab/kernel.ts'
import { cannotRun } from '../lab/requirements.ts'
import { GatewayLab, MTU, red, type Attached } from './gateway-lab.ts'

const skip = cannotRun()
const ROUTES = 200_000
/** Reading all routes takes a second and more. */
const BLOCKED_MS = 200

function requestOf({ endpoint, container }: Attached): AttachRequest {
  return attachRequest({ endpoint, network: red, overlayMtu: MTU, netns: container.netns, withRoute: true })
}

/** The result of work, and the longest time for which it kept the event loop: of the processor, which a busy machine gives late. */
async function blocking<T>(run: () => Promise<T>): Promise<{ readonly result: T; readonly ms: number }> {
  const cpuMs = (): number => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1_000
  }
  let [last, ms] = [cpuMs(), 0]
  const look = (): void => {
    const now = cpuMs()
    ms = Math.max(ms, now - last)
    last = now
  }
  const timer = setInterval(look, 1)
  try {
    return { result: await run(), ms: (look(), ms) }
  } finally {
    clearInterval(timer)
  }
}

async function crowded(t: Test): Promise<{ g: GatewayLab; one: Attached }> {
  const g = await GatewayLab.open(1)
  t.teardown(() => g.close())
  return { g, one: await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' }) }
}

t.test('routes without number in any table delay neither attach nor CHECK', { skip, timeout: 120_000 }, async t => {
  const { g, one } = await crowded(t)
  const { devices } = g.driver(1)
  const { namespace } = one.container
  const routes = Array.from({ length: ROUTES }, (_, n) => {
    const table = n % 2 === 0 ? 'main' : `${1_000 + (n % 200)}`
    return `route add 11.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}/32 dev lo table ${table}`
  })
  await ipBatch(routes, namespace)
  const checked = await blocking(() => devices.check(requestOf(one)))
  t.ok(checked.ms < BLOCKED_MS, `CHECK kept the event loop for ${Math.round(checked.ms)} ms`)

  // Attached again, with a default route of another interface that stays.
  await devices.detach(detachRequest(one.endpoint))
  await ipBatch(['link add own type bridge', 'link set own up', 'route add default dev own'], namespace)
  await g.pass(1)
  const attached = await blocking(() =>
    devices.attach(requestOf(one), () => ({ networks: new Map(), peers: new Map() }))
  )
  t.ok(attached.ms < BLOCKED_MS, `attach kept the event loop for ${Math.round(attached.ms)} ms`)
  t.equal(attached.result.created, true)
  await devices.check(requestOf(one))
  await ipBatch(['route del default dev own'], namespace)
  await t.rejects(devices.check(requestOf(one)), { code: 'ERR_CHECK_FAILED', message: /no default route/ })
})

t.test('more addresses than are read are an error of that container, by name', { skip, timeout: 120_000 }, async t => {
  const { g, one } = await crowded(t)
  const { devices } = g.driver(1)
  const addresses = Array.from({ length: 5_000 }, (_, n) => `address add 12.0.${n >> 8}.${n & 255}/32 dev eth0`)
  await ipBatch(addresses, one.container.namespace)
  const message = /read addresses of the container: there are more than 4096/
  await t.rejects(devices.check(requestOf(one)), { code: 'ERR_KERNEL', message })
  const two = await g.attach(red, { container: 'r2', host: 1, address: '10.1.0.3' })
  await devices.check(requestOf(two))
  await devices.detach(detachRequest(one.endpoint))
})
