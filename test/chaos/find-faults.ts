// What a load's claims and releases must have left on every server.

import type { EndpointView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { waitFor } from '../lab/wait.ts'
import type { LoadReport } from './load.ts'

/** Compares the state of every server with the answers that clients got. @returns the differences */
export async function findFaults(p: {
  readonly servers: readonly LabHost[]
  readonly network: string
  readonly report: LoadReport
}): Promise<string[]> {
  const { servers, network } = p
  const { held, released, twoAddresses } = p.report
  await Promise.all(servers.map(host => host.waitReady(30_000)))
  await waitFor('all servers have applied the same index', async () => {
    const indexes = await Promise.all(servers.map(async host => (await host.status()).raft.appliedIndex))
    return new Set(indexes).size === 1
  })
  const faults = twoAddresses.map(id => `request ${id} got two addresses`)
  const statuses = await Promise.all(servers.map(host => host.status()))
  if (new Set(statuses.map(({ digest }) => digest)).size !== 1) faults.push('the digests differ')
  for (const { host, differsAt } of statuses) if (differsAt !== null) faults.push(`${host} differs at ${differsAt}`)
  for (const host of servers) {
    const rows = await host.api.list<EndpointView>(`/v1/endpoints?network=${network}`)
    const byId = new Map(rows.map(row => [row.containerId, row.address.split('/')[0] ?? '']))
    const owners = new Map<string, string>()
    for (const [id, address] of byId) {
      const other = owners.get(address)
      if (other !== undefined) faults.push(`${host.name}: ${address} is assigned to ${other} and ${id}`)
      owners.set(address, id)
    }
    for (const [id, address] of Object.entries(held)) {
      if (byId.get(id) !== address) faults.push(`${host.name}: ${id} got ${address} but has ${byId.get(id) ?? 'none'}`)
    }
    for (const id of released) if (byId.has(id)) faults.push(`${host.name}: ${id} was released but exists`)
  }
  return faults
}
