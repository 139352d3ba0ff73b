// Cuts that last until Serf has forgotten the members on the other side, on both sides. Serf forgets after a day; here after
// seconds. When the cut ends, the hosts find each other by themselves.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { waitFor } from '../lab/wait.ts'

/** Serf takes 5 s to declare a member failed, and looks every 15 s for members to forget. */
const FORGOTTEN_MS = 120_000
/** A missing peer is tried once a minute at least. */
const HEALED_MS = 240_000

if (process.getuid?.() !== 0) {
  t.plan(0, 'needs root: network namespaces')
  process.exit(0)
}

const lab = await Lab.create()
t.teardown(() => lab.destroy())
const forgetful = join(lab.dir, 'forgetful-serf')
await writeFile(join(lab.dir, 'forget.json'), JSON.stringify({ reconnect_timeout: '1s' }))
await writeFile(forgetful, `#!/bin/sh\nexec serf "$@" -config-file=${join(lab.dir, 'forget.json')}\n`, { mode: 0o700 })
const common = { join: ['192.0.2.1'], settings: { serf: { binary: forgetful } } }
for (let n = 0; n < 3; n++) await lab.addHost({ ...common, bootstrapExpect: 3 })
for (let n = 0; n < 3; n++) await lab.addHost({ ...common, role: 'client' })
await Promise.all(lab.hosts.map(host => host.startAgent()))
await Promise.all(lab.hosts.map(host => host.waitReady(60_000)))

/** Waits until every one of these hosts lists these hosts as alive, and no others. */
async function allList(listing: readonly LabHost[], listed: readonly LabHost[], timeoutMs: number): Promise<void> {
  const expected = listed.map(({ name }) => name).join(' ')
  for (const host of listing) {
    await waitFor(
      `${host.name} lists ${expected}`,
      async () => {
        const names = (await host.members()).map(({ name, status }) =>
          status === 'alive' ? name : `${name} ${status}`
        )
        return names.sort().join(' ') === expected
      },
      { timeoutMs, explain: () => host.logTail() }
    )
  }
}

for (const { claim, alone } of [
  { claim: 'three hosts and three', alone: ['h1', 'h4', 'h5'] },
  { claim: 'one host and five', alone: ['h6'] }
]) {
  t.test(`a cut that Serf has forgotten heals: ${claim}`, async t => {
    const side = lab.hosts.filter(({ name }) => alone.includes(name))
    const others = lab.hosts.filter(host => !side.includes(host))
    await allList(lab.hosts, lab.hosts, 60_000)
    for (const a of side) for (const b of others) await Promise.all([a.dropFrom(b), b.dropFrom(a)])
    await allList(side, side, FORGOTTEN_MS)
    await allList(others, others, FORGOTTEN_MS)
    for (const host of lab.hosts) await host.heal()
    await allList(lab.hosts, lab.hosts, HEALED_MS)
    const [first] = side
    const created = await first?.api.call('POST', '/v1/networks', {
      name: `after-${alone.length}`,
      subnet: '10.0.0.0/24'
    })
    t.match(created, { name: `after-${alone.length}` }, 'and they are one cluster')
  })
}
