import type { WireEvent } from '../../src/shared/protocol.js'

/** Names and values of a `WWW-Authenticate` header, quoted or not (RFC 9110 11.6.1). */
const parameter = /([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))/g

/**
 * The parameters of the challenge in an answer (RFC 6750 3); none where there is no challenge, or
 * CORS hides it. Of two with one name, the first counts.
 */
export const challengeOf = ({ headers }: Response): ReadonlyMap<string, string> =>
  new Map(
    [...(headers.get('www-authenticate') ?? '').matchAll(parameter)]
      .reverse()
      .map(([, name = '', quoted, plain = '']) => [name.toLowerCase(), quoted ?? plain]),
  )

/** Words as RFC 6749 3.3 has them in a scope: what else is in there goes to no page. */
const words = /^[ !#-[\]-~]{1,300}$/

/**
 * What an API asks for that a new token of the same kind would not bring: more scope
 * (RFC 6750 3.1), or a stronger or more recent sign-in (RFC 9470 3).
 */
export const stepUpOf = (response: Response): WireEvent | undefined => {
  const challenge = challengeOf(response)
  const error = /^insufficient_(scope|user_(authentication))$/.exec(challenge.get('error') ?? '')
  if (!error) return
  const take = (name: string, form = words): Record<string, string> => {
    const value = challenge.get(name) ?? ''
    return form.test(value) ? { [name]: value } : {}
  }
  return {
    type: 'step-up',
    wants: error[2] ? 'authentication' : 'scope',
    params: { ...take('acr_values'), ...take('max_age', /^\d{1,9}$/) },
    ...take('scope'),
  }
}
