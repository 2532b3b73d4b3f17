/**
 * The list of what can go wrong, and what is going wrong at the token endpoint and the API now.
 */
import type { Chance } from './chance.js'

/** What can go wrong with a request to the token endpoint. */
export const tokenFaults = [
  'drop before',
  'drop after',
  'duplicate POST',
  'slow to arrive',
  'slow to answer',
  'no answer',
  '5xx before',
  '5xx after',
  '429',
  'HTML 200',
  'empty 400',
  'truncated JSON',
] as const

/** What can happen to the browser, whatever it is doing. */
export const worldFaults = [
  'kill',
  'idle stop',
  'offline',
  'clock jump',
  'tab closed',
  'logout',
  'another user',
  'disk full',
  'revoked at the server',
  'API fault',
] as const

export type TokenFault = (typeof tokenFaults)[number]
export type WorldFault = (typeof worldFaults)[number]
export type Fault = TokenFault | WorldFault

/** This share of the token requests meets this fault. */
interface Trouble {
  kind: TokenFault
  share: number
}

/** Faults that wait for the next token requests, and one that stays for a while. */
export const createFaults = (chance: Chance) => {
  let waiting: TokenFault[] = []
  let mood: Trouble | undefined
  let trouble: Trouble | undefined
  let apiTrouble = 0

  const lasting = (): TokenFault | undefined => {
    const now = trouble ?? mood
    return now && chance.is(now.share) ? now.kind : undefined
  }

  return {
    /** The next token requests meet these. */
    arm: (...faults: TokenFault[]) => {
      waiting.push(...faults)
    },
    /** From now on this share of the token requests meets this fault, apart from worse times. */
    setMood: (next: Trouble | undefined) => {
      mood = next
    },
    /** The same, for worse times. */
    setTrouble: (next: Trouble | undefined) => {
      trouble = next
    },
    /** This share of the API requests fails. */
    setApiTrouble: (share: number) => {
      apiTrouble = share
    },
    /** Everything works again. */
    heal: () => {
      waiting = []
      mood = undefined
      trouble = undefined
      apiTrouble = 0
    },
    /** Is more than one request going to suffer? */
    areLasting: () => mood !== undefined || trouble !== undefined,
    /** What this request to the token endpoint meets. */
    next: (): TokenFault | undefined => waiting.shift() ?? lasting(),
    /** What a request to another endpoint of the server meets. */
    nextElsewhere: lasting,
    apiFails: (): boolean => apiTrouble > 0 && chance.is(apiTrouble),
    /** A hidden frame can come to nothing wherever a token request can. */
    navigationFails: (): boolean => trouble !== undefined && chance.is(trouble.share / 2),
  }
}

export type Faults = ReturnType<typeof createFaults>
