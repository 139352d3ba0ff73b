// A lab with real agents for tests of the data plane: servers, one network, and a container on each of the first hosts.

import type { Test } from 'tap'
import type { EndpointView } from '#model/views.ts'
import type { LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab, type LabOptions } from '../lab/lab.ts'
import { readKernel } from '../lab/oracle.ts'

export type MeshLab = {
  readonly lab: Lab
  readonly containers: readonly LabContainer[]
  readonly endpoints: readonly EndpointView[]
}

/** The first `attached` hosts get a container of network red each, c1 on h1 and so on. */
export async function meshLab(t: Test, p: LabOptions & { servers: number; attached: number }): Promise<MeshLab> {
  const lab = await Lab.create(p)
  t.teardown(() => lab.destroy())
  await lab.addServers(p.servers)
  await lab.host(1).api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/24' })
  const containers = await lab.containers(Array.from({ length: p.attached }, (_, n) => `c${n + 1}`))
  const endpoints: EndpointView[] = []
  for (const [n, container] of containers.entries()) endpoints.push(await lab.host(n + 1).attach(container, 'red'))
  return { lab, containers, endpoints }
}

export function nth<T>(list: readonly T[], n: number): T {
  const item = list[n - 1]
  if (item === undefined) throw new Error(`there is no number ${n}`)
  return item
}

/** Names and indexes of our devices: they stay the same unless a device is recreated. */
export async function deviceIndexes(host: LabHost): Promise<string[]> {
  const { links } = await readKernel(host.namespace)
  return links
    .filter(link => link.ifalias?.startsWith('vxmesh ') === true)
    .map(link => `${link.ifname} ${(link as unknown as { ifindex: number }).ifindex}`)
    .sort()
}
