// The IP address in libp2p's address of a connection's other end.

type Multiaddr = { readonly getComponents: () => readonly { readonly name: string; readonly value?: string }[] }

/** As text; empty when there is none. */
export function ipIn(address: Multiaddr): string {
  return address.getComponents().find(({ name }) => name === 'ip4' || name === 'ip6')?.value ?? ''
}
