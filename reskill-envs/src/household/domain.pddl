;; A small house: one hand, one receptacle at each location.
(define (domain household)
 (:requirements :adl :typing :action-costs)
 (:types location receptacle object room rkind okind)

 (:predicates
    (at ?l - location)                             ; where the player is
    (receptacleat ?r - receptacle ?l - location)
    (inroom ?r - receptacle ?m - room)
    (rkind ?r - receptacle ?k - rkind)
    (okind ?o - object ?k - okind)
    (openable ?r - receptacle)
    (opened ?r - receptacle)
    (appliance ?r - receptacle)
    (idle ?r - receptacle)                         ; an appliance that has to be started first
    (in ?o - object ?r - receptacle)
    (pickable ?o - object)
    (rinsable ?o - object)
    (heatable ?o - object)
    (coolable ?o - object)
    (lamp ?o - object)
    (holds ?o - object)
    (handfull)
    (clean ?o - object)
    (hot ?o - object)
    (cool ?o - object)
    (lit ?o - object)
    (looked)                                       ; an effect for actions that change nothing
 )
 (:functions (total-cost) - number)

 (:action goto
    :parameters (?from - location ?to - location ?r - receptacle)
    :precondition (and (at ?from) (receptacleat ?r ?to))
    :effect (and (not (at ?from)) (at ?to) (increase (total-cost) 1)))

 (:action open
    :parameters (?l - location ?r - receptacle)
    :precondition (and (openable ?r) (at ?l) (receptacleat ?r ?l) (not (opened ?r)))
    :effect (and (opened ?r) (increase (total-cost) 1)))

 (:action close
    :parameters (?l - location ?r - receptacle)
    :precondition (and (openable ?r) (at ?l) (receptacleat ?r ?l) (opened ?r))
    :effect (and (not (opened ?r)) (increase (total-cost) 1)))

 (:action take
    :parameters (?l - location ?o - object ?r - receptacle)
    :precondition (and (pickable ?o) (at ?l) (receptacleat ?r ?l) (in ?o ?r) (not (handfull))
                       (or (not (openable ?r)) (opened ?r)))
    :effect (and (not (in ?o ?r)) (holds ?o) (handfull) (increase (total-cost) 1)))

 (:action put
    :parameters (?l - location ?o - object ?r - receptacle)
    :precondition (and (pickable ?o) (at ?l) (receptacleat ?r ?l) (holds ?o)
                       (or (not (openable ?r)) (opened ?r)))
    :effect (and (in ?o ?r) (not (holds ?o)) (not (handfull)) (increase (total-cost) 1)))

 (:action start
    :parameters (?l - location ?r - receptacle)
    :precondition (and (appliance ?r) (at ?l) (receptacleat ?r ?l) (idle ?r))
    :effect (and (not (idle ?r)) (increase (total-cost) 1)))

 (:action rinse
    :parameters (?l - location ?o - object ?r - receptacle)
    :precondition (and (rinsable ?o) (rkind ?r sinkkind) (at ?l) (receptacleat ?r ?l) (holds ?o)
                       (not (idle ?r)) (not (clean ?o)))
    :effect (and (clean ?o) (increase (total-cost) 1)))

 (:action heat
    :parameters (?l - location ?o - object ?r - receptacle)
    :precondition (and (heatable ?o) (rkind ?r microwavekind) (at ?l) (receptacleat ?r ?l) (holds ?o)
                       (not (idle ?r)) (not (hot ?o)))
    :effect (and (hot ?o) (not (cool ?o)) (increase (total-cost) 1)))

 (:action chill
    :parameters (?l - location ?o - object ?r - receptacle)
    :precondition (and (coolable ?o) (rkind ?r fridgekind) (at ?l) (receptacleat ?r ?l) (holds ?o)
                       (not (idle ?r)) (not (cool ?o)))
    :effect (and (cool ?o) (not (hot ?o)) (increase (total-cost) 1)))

 (:action light
    :parameters (?l - location ?o - object ?r - receptacle)
    :precondition (and (lamp ?o) (at ?l) (receptacleat ?r ?l) (in ?o ?r) (not (lit ?o)))
    :effect (and (lit ?o) (increase (total-cost) 1)))

 (:action examine
    :parameters (?l - location ?r - receptacle)
    :precondition (and (at ?l) (receptacleat ?r ?l))
    :effect (and (looked)))

 (:action look
    :parameters ()
    :precondition ()
    :effect (and (looked)))

 (:action inventory
    :parameters ()
    :precondition ()
    :effect (and (looked)))
)
