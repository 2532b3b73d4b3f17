import { TokenError } from '../../src/shared/errors.js'
import { parseObject, readBody } from '../http/body.js'
import { type DpopClocks, type DpopNonces, mostSkew } from './dpop-nonces.js'

/** Why a request is sent once more with a new proof. */
export type RepeatReason = 'nonce' | 'clock' | 'resent'

/** How a request was sent that now has an answer. */
export interface Sent {
  origin: string
  /** The nonce in its proof. */
  nonce: string | undefined
  /** ms since 1970 */
  at: number
}

/** Finds in an answer the reason to send its request once more with a new proof, if there is one. */
export interface DpopAnswers {
  ofTokenEndpoint(
    response: Response,
    sent: Sent,
    grant: 'authorization_code' | 'refresh_token',
  ): Promise<RepeatReason | undefined>
  ofApi(response: Response, sent: Sent): RepeatReason | undefined
}

/** The OAuth error in an answer of the token endpoint, if there is one that can be read. */
const oauthErrorIn = async (response: Response): Promise<string> => {
  if (response.ok) return ''
  const body = await readBody(response.clone()).catch(() => '')
  return String(parseObject(body)?.['error'])
}

export function createDpopAnswers({
  nonces,
  clocks,
  reportProblem,
}: {
  nonces: Pick<DpopNonces, 'note'>
  clocks: Pick<DpopClocks, 'correct'>
  reportProblem: (error: TokenError) => void
}): DpopAnswers {
  /** Answers in a row, by origin, that refuse a request for reasons that CORS hides. */
  const unreadable = new Map<string, number>()

  const reportHidden = (origin: string, report = reportProblem) =>
    report(
      new TokenError(
        'cors_expose_headers',
        `${origin} refuses requests, and its answer cannot be read. If it demands DPoP nonces, it ` +
          'must send "Access-Control-Expose-Headers: DPoP-Nonce, WWW-Authenticate".',
      ),
    )

  /** Corrects the clock of an origin that refuses a proof. Is that a reason to try again? */
  const correctClock = (
    response: Response,
    { origin, at }: Sent,
    report = reportProblem,
  ): boolean => {
    const result = clocks.correct(response, { origin, sentAt: at })
    if (result === 'off') {
      const minutes = mostSkew / 60
      report(
        new TokenError(
          'clock',
          `This device's clock is more than ${minutes} minutes off that of ${origin}. Set it right.`,
        ),
      )
    }
    return result === 'corrected'
  }

  return {
    ofTokenEndpoint: async (response, sent, grant) => {
      const report = (problem: TokenError) => {
        reportProblem(problem)
        // The browser is between two pages, so nobody may have heard it: it is how the sign-in ends.
        if (grant === 'authorization_code') throw problem
      }
      const { origin } = sent
      const nonce = nonces.note(response, origin)
      const error = await oauthErrorIn(response)
      unreadable.delete(origin)
      if (error.includes('use_dpop_nonce')) {
        if (nonce !== null) return 'nonce'
        reportHidden(origin, report)
      }
      // The browser may have sent the proof twice by itself. A refresh token can be sent again; the
      // server may have redeemed a code the first time.
      if (error.includes('invalid_dpop_proof')) {
        if (correctClock(response, sent, report)) return 'clock'
      } else if (error !== 'invalid_grant') return
      return grant === 'refresh_token' ? 'resent' : undefined
    },

    ofApi: (response, sent) => {
      const { origin } = sent
      const nonce = nonces.note(response, origin)
      const error = response.ok ? '' : (response.headers.get('www-authenticate') ?? '')
      const isUnreadable = response.status === 401 && !error && response.type === 'cors'
      if (isUnreadable && nonce === null) {
        const times = (unreadable.get(origin) ?? 0) + 1
        unreadable.set(origin, times)
        // An API refuses an expired token like that too, but not the new one right after it.
        if (times === 2) reportHidden(origin)
        return
      }
      unreadable.delete(origin)
      if (error.includes('use_dpop_nonce') || (isUnreadable && nonce !== sent.nonce)) {
        if (nonce !== null) return 'nonce'
        reportHidden(origin)
      }
      // If the clock is right, the browser may have sent the proof twice by itself, and the API may
      // have taken an order the first time: it is not sent again.
      const isRefused = error.includes('invalid_dpop_proof')
      return isRefused && correctClock(response, sent) ? 'clock' : undefined
    },
  }
}
