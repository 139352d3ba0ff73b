// The router namespaces of lab hosts: they are named next to the hosts' own, and must be removed with them.

import { statSync } from 'node:fs'
import { ipJson, listNamespaces, removeNamespaces } from './kernel.ts'

/** Names of the routers whose mark names one of these hosts' namespaces. */
export async function routersOf(hosts: readonly string[]): Promise<string[]> {
  const marks = hosts
    .map(host => statSync(`/run/netns/${host}`, { throwIfNoEntry: false })?.ino)
    .filter(ino => ino !== undefined)
    .map(ino => `net:[${ino}]`)
  // A lab is removed twice as a rule: by its test, and once more when the test's process has ended.
  if (marks.length === 0) return []
  const owned = await Promise.all(
    listNamespaces('vxr-').map(async name => {
      const links = await ipJson(name, 'link', 'show', 'lo').catch(() => [])
      const alias = links[0]?.['ifalias']
      return marks.some(mark => typeof alias === 'string' && alias.endsWith(mark)) ? [name] : []
    })
  )
  return owned.flat()
}

export async function removeRouters(hosts: readonly string[]): Promise<void> {
  await removeNamespaces(await routersOf(hosts)).catch(async (err: unknown) => {
    // Another lab's host may have taken the name at once.
    if ((await routersOf(hosts)).length > 0) throw err
  })
}
