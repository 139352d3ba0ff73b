// The network that clients allocate from.

import type { LabHost } from '../../test/lab/host.ts'

export const NETWORK = 'bench'

/** Begins with no endpoints: a host may have 65,536, which a client with many requests in flight reaches within seconds. */
export async function renewNetwork({ api }: LabHost): Promise<void> {
  const all = (await api.call('GET', '/v1/networks')) as readonly { readonly name: string }[]
  if (all.some(({ name }) => name === NETWORK)) await api.call('DELETE', `/v1/networks/${NETWORK}?force=true`)
  await api.call('POST', '/v1/networks', { name: NETWORK, subnet: '10.0.0.0/8' })
}
