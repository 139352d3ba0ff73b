// Which driver is opened, and with or without programs, on a machine that can run them and on one that cannot.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openDriver } from '#agent/open-driver.ts'
import { loadConfig } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { scratch } from '#test/api/scratch.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { asNobody } from '#test/overlay/bpf/nobody.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const { clock } = new ManualClock()

type Choice = { readonly driver: string; readonly guard: string; readonly datapath?: string; readonly bind?: string }

async function overlayOf(
  { driver, guard, datapath = 'system', bind = '192.0.2.1' }: Choice,
  socket = '/nowhere'
): Promise<Config['overlay']> {
  const flags = {
    ...{ bind, insecure: 'true', 'overlay.driver': driver, 'overlay.guard': guard },
    ...{ 'overlay.ovs.socket': socket, 'overlay.ovs.datapath': datapath }
  }
  return (await loadConfig({ file: null, env: {}, flags })).overlay
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

async function closed(t: Test, driver: OverlayDriver, before: number): Promise<void> {
  await driver.close()
  t.equal(descriptors(), before, 'all is closed')
}

t.test(
  'programs are loaded unless the guard is another one, and forward unless the driver is another one',
  { skip },
  async t => {
    const rows: readonly [driver: string, guard: string, name: string, programs: boolean][] = [
      ['auto', 'auto', 'bpf', true],
      ['auto', 'required', 'bpf', true],
      ['auto', 'bpf', 'bpf', true],
      ['auto', 'nft', 'linux', false],
      ['auto', 'off', 'linux', false],
      ['bpf', 'auto', 'bpf', true],
      ['bpf', 'required', 'bpf', true],
      ['bpf', 'bpf', 'bpf', true],
      ['linux', 'auto', 'linux', true],
      ['linux', 'bpf', 'linux', true],
      ['linux', 'nft', 'linux', false],
      ['linux', 'off', 'linux', false]
    ]
    // What the first one opens for good.
    await (await openDriver(await overlayOf({ driver: 'linux', guard: 'off' }), clock)).close()
    for (const [driver, guard, name, programs] of rows) {
      const overlay = await overlayOf({ driver, guard })
      const before = descriptors()
      const opened = await openDriver(overlay, clock)
      const what = `driver ${driver}, guard ${guard}`
      t.equal(opened.name, name, what)
      t.equal(opened.noPrograms, null, what)
      t.equal(opened.guard, 'off', 'before it is set')
      // More than a dozen maps and programs, or a few sockets.
      t.equal(descriptors() - before > 10, programs, what)
      await closed(t, opened, before)
    }
  }
)

t.test('the programs of driver bpf cannot be left out', async t => {
  const before = descriptors()
  for (const guard of ['nft', 'off']) {
    const overlay = await overlayOf({ driver: 'bpf', guard })
    await t.rejects(openDriver(overlay, clock), { code: 'ERR_CONFIG', field: 'overlay.guard', message: /auto or bpf/ })
  }
  t.equal(descriptors(), before)
})

t.test('programs cannot guard the userspace datapath, which takes packets before them', async t => {
  const before = descriptors()
  const overlay = await overlayOf({ driver: 'ovs', guard: 'bpf', datapath: 'netdev' })
  await t.rejects(openDriver(overlay, clock), {
    code: 'ERR_CONFIG',
    field: 'overlay.guard',
    message: /must not be bpf/
  })
  t.equal(descriptors(), before)
})

t.test('over IPv6 no programs run: nftables guards, and it is said why', async t => {
  const bind = 'fd00::1'
  for (const [driver, guard, why] of [
    ['auto', 'auto', /an underlay of IPv4/],
    ['auto', 'required', /an underlay of IPv4/],
    ['linux', 'auto', /an underlay of IPv4/],
    ['auto', 'nft', null],
    ['linux', 'off', null]
  ] as const) {
    const opened = await openDriver(await overlayOf({ driver, guard, bind }), clock)
    t.equal(opened.name, 'linux', `driver ${driver}, guard ${guard}`)
    if (why === null) t.equal(opened.noPrograms, null)
    else t.match(opened.noPrograms, why)
    await opened.close()
  }
  for (const [driver, guard, field] of [
    ['bpf', 'auto', 'overlay.driver'],
    ['bpf', 'bpf', 'overlay.driver'],
    ['auto', 'bpf', 'overlay.guard'],
    ['linux', 'bpf', 'overlay.guard'],
    ['ovs', 'bpf', 'overlay.guard']
  ] as const) {
    const overlay = await overlayOf({ driver, guard, bind })
    const refused = {
      code: 'ERR_CONFIG',
      field,
      message: `${field}: must not be bpf: the eBPF programs take an underlay`
    }
    await t.rejects(openDriver(overlay, clock), refused, `driver ${driver}, guard ${guard}`)
  }
})

t.test('on a machine that cannot run programs nftables guards, unless programs are demanded', async t => {
  for (const driver of ['auto', 'linux']) {
    const overlay = await overlayOf({ driver, guard: 'auto' })
    const before = descriptors()
    const opened = await asNobody(() => openDriver(overlay, clock))
    t.equal(opened.name, 'linux', driver)
    t.match(opened.noPrograms, /EPERM|not permitted/, 'it says why')
    await closed(t, opened, before)
  }
  for (const guard of ['nft', 'off']) {
    const overlay = await overlayOf({ driver: 'auto', guard })
    const opened = await asNobody(() => openDriver(overlay, clock))
    t.same([opened.name, opened.noPrograms], ['linux', null], 'which were not asked for')
    await opened.close()
  }
  const demanded: readonly [driver: string, guard: string, field: string][] = [
    ['bpf', 'auto', 'overlay.driver'],
    ['bpf', 'bpf', 'overlay.driver'],
    ['auto', 'bpf', 'overlay.guard'],
    ['linux', 'bpf', 'overlay.guard']
  ]
  for (const [driver, guard, field] of demanded) {
    const overlay = await overlayOf({ driver, guard })
    const before = descriptors()
    await t.rejects(
      asNobody(() => openDriver(overlay, clock)),
      {
        code: 'ERR_UNSUPPORTED',
        field,
        message: new RegExp(`^${field}: this host cannot run bpf: .*(EPERM|not permitted)`)
      },
      `driver ${driver}, guard ${guard}`
    )
    t.equal(descriptors(), before)
  }
})

t.test('a driver that cannot be opened leaves no program behind', { skip }, async t => {
  const socket = join(scratch(t), 'db.sock')
  const rows: readonly Choice[] = [
    { driver: 'ovs', guard: 'auto' },
    { driver: 'ovs', guard: 'bpf' },
    { driver: 'ovs', guard: 'nft' },
    { driver: 'ovs', guard: 'auto', datapath: 'netdev' }
  ]
  for (const choice of rows) {
    const overlay = await overlayOf(choice, socket)
    const before = descriptors()
    await t.rejects(openDriver(overlay, clock), { code: 'ERR_UNSUPPORTED', field: 'overlay.driver', message: /ENOENT/ })
    t.equal(descriptors(), before, JSON.stringify(choice))
  }
})
