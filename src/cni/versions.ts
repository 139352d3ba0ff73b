// Versions of the CNI specification, and the version that introduced each verb.

/** Ascending. */
export const VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

export type CniVersion = (typeof VERSIONS)[number]

export const NEWEST: CniVersion = '1.1.0'

export type Verb = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION'

const SINCE: Readonly<Record<Verb, CniVersion>> = {
  ADD: '0.3.1',
  DEL: '0.3.1',
  VERSION: '0.3.1',
  CHECK: '0.4.0',
  GC: '1.1.0',
  STATUS: '1.1.0'
}

export function isVersion(text: unknown): text is CniVersion {
  return VERSIONS.some(version => version === text)
}

export function isVerb(text: string): text is Verb {
  return Object.hasOwn(SINCE, text)
}

export function atLeast(version: CniVersion, needed: CniVersion): boolean {
  return VERSIONS.indexOf(version) >= VERSIONS.indexOf(needed)
}

/** Whether this version has the verb. */
export function knows(version: CniVersion, verb: Verb): boolean {
  return atLeast(version, SINCE[verb])
}
