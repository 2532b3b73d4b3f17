/**
 * The BroadcastChannel over which workers tell each other that the record has changed.
 */
import type { Chance } from './chance.js'
import type { Owner, Scheduler } from './scheduler.js'

interface Member {
  onMessage: (data: unknown) => void
  /** The browser may have frozen it, so that it misses a message. */
  isIdle: () => boolean
}

/** Messages from one worker to another keep their order. */
export const createChannel = (scheduler: Scheduler, chance: Chance) => {
  const members = new Map<Owner, Member>()
  return {
    join: (owner: Owner, member: Member) => {
      members.set(owner, member)
      return {
        post: (data: unknown) => {
          for (const [other, { onMessage, isIdle }] of members) {
            if (other === owner) continue
            if (isIdle() && chance.is(0.2)) {
              scheduler.note(`  an announcement misses ${other.name}`)
              continue
            }
            const source = `${owner.name} to ${other.name}`
            scheduler.add('an announcement', () => onMessage(data), { owner: other, source })
          }
        },
      }
    },
    leave: (owner: Owner) => members.delete(owner),
  }
}

export type Channel = ReturnType<typeof createChannel>
