/**
 * Which faults came upon which states. A pair that can exist and was never reached says that the
 * simulation has not looked there.
 */
import type { SessionRecord } from '../../sw/session/records.js'
import { type Fault, tokenFaults, worldFaults } from './faults.js'

/** What a fault can come upon. */
export const states = [
  'signed out',
  'ended',
  'signed in',
  'refreshing',
  'refreshing again',
  'outcome unknown',
  'pausing',
  'no refresh token',
  'silent login',
  'signing in',
] as const

export type State = (typeof states)[number]

/** What the world is doing, by what is on disk and under way. */
export const stateOf = (
  record: SessionRecord | undefined,
  now: number,
  underWay: { signIn: boolean; frame: boolean; refresh: 'first' | 'again' | undefined },
): State => {
  if (underWay.frame) return 'silent login'
  if (underWay.refresh) return underWay.refresh === 'first' ? 'refreshing' : 'refreshing again'
  if (underWay.signIn) return 'signing in'
  if (record?.status !== 'active') return record?.reason === 'ended' ? 'ended' : 'signed out'
  if (record.refreshSentAt !== undefined) return 'outcome unknown'
  if ((record.retry?.notBefore ?? 0) > now) return 'pausing'
  return record.refreshToken === undefined ? 'no refresh token' : 'signed in'
}

const faults: readonly Fault[] = [...tokenFaults, ...worldFaults]

const refreshing: readonly State[] = ['refreshing', 'refreshing again']
const withTokenRequest: readonly State[] = [...refreshing, 'silent login', 'signing in']

/** Why a fault cannot come upon a state; undefined where it can. */
export const whyImpossible = (state: State, fault: Fault): string | undefined => {
  if ((tokenFaults as readonly string[]).includes(fault) && !withTokenRequest.includes(state)) {
    return 'no request to the token endpoint without a refresh or a sign-in'
  }
  return undefined
}

export const pairOf = (state: State, fault: Fault) => `${state} x ${fault}`

/** All pairs that there can be. */
export const possiblePairs = (): string[] =>
  states.flatMap((state) =>
    faults
      .filter((fault) => whyImpossible(state, fault) === undefined)
      .map((fault) => pairOf(state, fault)),
  )

/** How often each pair was reached, as a table. */
export const coverageTable = (reached: ReadonlyMap<string, number>): string => {
  const width = Math.max(...faults.map(({ length }) => length))
  const cell = (state: State, fault: Fault) =>
    whyImpossible(state, fault) ? '-' : String(reached.get(pairOf(state, fault)) ?? 0)
  const columns = states.map((state) => ({
    state,
    width: Math.max(state.length, 7),
  }))
  const head = columns.map(({ state, width }) => state.padStart(width)).join('  ')
  const lines = faults.map((fault) => {
    const cells = columns.map(({ state, width }) => cell(state, fault).padStart(width))
    return `${fault.padEnd(width)}  ${cells.join('  ')}`
  })
  return [`${' '.repeat(width)}  ${head}`, ...lines].join('\n')
}

/** The pairs that there cannot be, and why. */
export const impossiblePairs = (): string[] => {
  const faultsBy = new Map<string, Fault[]>()
  for (const fault of faults) {
    for (const state of states) {
      const why = whyImpossible(state, fault)
      if (why === undefined) continue
      const impossible = states.filter((other) => whyImpossible(other, fault) === why)
      const line = `while ${impossible.join(', ')}: ${why}`
      faultsBy.set(line, [...new Set([...(faultsBy.get(line) ?? []), fault])])
    }
  }
  return [...faultsBy].map(([line, of]) => `Impossible: ${of.join(', ')} ${line}.`)
}
