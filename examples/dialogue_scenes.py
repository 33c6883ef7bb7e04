"""The scenes that make_dialogues.py fills in: who says what, and the sentence of the summary that follows from it.

`{a}` and `{b}` are the two people; the other slots are drawn once a dialogue. A beat is one exchange: its turns, each
"a: ..." or "b: ...", and what the summary says of it. A scene opens with one of its openings; any of its further beats
may follow, in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

PEOPLE = (
    "Amina", "Anton", "Beatriz", "Chen", "Clara", "Daniel", "Elif", "Emeka", "Farid", "Grace", "Hana", "Hugo", "Ines",
    "Ivan", "Jonas", "Kavya", "Lena", "Luca", "Mara", "Mateo", "Nadia", "Noor", "Olga", "Omar", "Petra", "Rafael",
    "Ravi", "Rosa", "Samuel", "Sofia", "Tariq", "Tomas", "Vera", "Wei", "Yara", "Yusuf",
)  # fmt: skip
SLOTS = {
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "hour": ("nine", "ten", "eleven", "noon", "one", "two", "three", "four", "five"),
    "late": ("six", "half past six", "seven", "eight"),
    "later": ("a quarter of an hour later", "half an hour later", "an hour later", "two hours later"),
    "place": ("the library", "the station", "the old market", "the museum", "the harbour", "the park gate", "the mill"),
    "dish": ("a lentil soup", "a mushroom risotto", "an apple tart", "a potato salad", "a vegetable curry", "pancakes"),
    "missing": ("onions", "butter", "flour", "lemons", "eggs", "cream", "fresh herbs"),
    "city": ("Lisbon", "Krakow", "Ghent", "Bologna", "Valencia", "Tallinn", "Leeds", "Montreal"),
    "subject": ("the budget", "the survey", "the new website", "the spring catalogue", "the safety report"),
    "machine": ("the printer", "the dishwasher", "the washing machine", "the heater", "the coffee machine"),
    "animal": ("the cat", "the old dog", "the rabbit", "the parrot"),
    "course": ("pottery", "Spanish", "first aid", "photography", "beekeeping", "carpentry"),
    "book": ("the atlas", "the cookbook", "the crime novel", "the poems", "the biography of the painter"),
    "gift": ("a scarf", "a teapot", "a board game", "a plant", "a pair of gloves", "a record"),
    "relative": ("sister", "brother", "mother", "father", "aunt", "uncle", "cousin", "best friend"),
    "vehicle": ("car", "van", "scooter", "motorbike"),
    "plant": ("tomatoes", "roses", "beans", "basil", "strawberries", "pumpkins"),
    "sport": ("tennis", "badminton", "table tennis", "basketball", "volleyball"),
    "room": ("kitchen", "bathroom", "hall", "bedroom", "study"),
    "colour": ("light grey", "pale green", "warm white", "dark blue", "yellow"),
}


@dataclass(frozen=True)
class Beat:
    turns: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Scene:
    openings: tuple[Beat, ...]
    beats: tuple[Beat, ...]


SCENES = (
    Scene(
        openings=(
            Beat(("a: Shall we meet on {day}?", "b: Gladly. At {hour}, by {place}?", "a: Perfect."),
                 "{a} and {b} will meet at {hour} on {day} by {place}."),
            Beat(("a: I have not seen you for weeks. Are you free on {day}?", "b: Yes, from {hour} on.",
                  "a: Then I will wait for you at {place}."),
                 "{a} will wait for {b} at {place} on {day} at {hour}."),
        ),
        beats=(
            Beat(("b: I may come {later}, my train is often late.", "a: No trouble, I will bring {book} to read."),
                 "{b} may arrive {later}."),
            Beat(("a: Could you return {book} then?", "b: Of course, I finished it last night."),
                 "{b} will return {book}."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: I want to cook {dish} tonight, but we have no {missing} left.", "b: I can buy some after work."),
                 "{a} wants to cook {dish}, and {b} will buy {missing} after work."),
            Beat(("a: Do you know a good recipe for {dish}?", "b: Yes, but it needs {missing}.",
                  "a: I will get some on the way home."),
                 "{b} knows a recipe for {dish}; {a} will get the {missing}."),
        ),
        beats=(
            Beat(("b: How many of us will there be?", "a: Five, my {relative} is coming too."),
                 "{a}'s {relative} is coming too, so there will be five people."),
            Beat(("a: Please be here by {late}.", "b: I will try, the meeting about {subject} may take long."),
                 "They hope to start by {late}."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: The meeting about {subject} was moved to {day}.", "b: At what time?", "a: At {hour}."),
                 "The meeting about {subject} was moved to {day} at {hour}."),
            Beat(("a: Can you present {subject} on {day}?", "b: Yes, if I get the figures before {hour}."),
                 "{b} can present {subject} on {day} if the figures arrive before {hour}."),
        ),
        beats=(
            Beat(("a: I will send you my notes tonight.", "b: Thank you, that saves me a lot of time."),
                 "{a} will send notes tonight."),
            Beat(("b: Who else takes part?", "a: The colleagues from {city}, by video."),
                 "The colleagues from {city} join by video."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: {machine} is making that noise again.", "b: Then we should call somebody.",
                  "a: The repair service can come on {day} at {hour}."),
                 "A repair service will come on {day} at {hour} to look at {machine}."),
            Beat(("a: Did you switch off {machine}?", "b: No, it stopped by itself. I think it is broken.",
                  "a: Then I will ask for somebody to come on {day}."),
                 "{b} thinks that {machine} is broken, and {a} will ask for somebody to come on {day}."),
        ),
        beats=(
            Beat(("b: I have to work then. Can you be at home?", "a: Yes, I will take the day off."),
                 "{a} will take the day off to be at home."),
            Beat(("a: Is it still under warranty?", "b: Until the end of the year, I found the receipt."),
                 "It is still under warranty."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: I am going to {city} for a few days. Could you feed {animal}?", "b: Sure, when do you leave?",
                  "a: On {day}, quite early."),
                 "{b} will feed {animal} while {a} is in {city} from {day}."),
            Beat(("a: My {relative} lives in {city} and invited me for the weekend.", "b: Who looks after {animal}?",
                  "a: I hoped that you would."),
                 "{a} is invited to {city} and hopes that {b} looks after {animal}."),
        ),
        beats=(
            Beat(("b: How much does it eat?", "a: One cup in the morning and one at {late}, not more."),
                 "It gets one cup in the morning and one at {late}."),
            Beat(("a: The key is with my {relative}.", "b: Good, I will fetch it the evening before."),
                 "{b} will fetch the key from {a}'s {relative}."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: Have you heard of the {course} course at {place}?", "b: No. When does it start?",
                  "a: Next {day}, at {late} in the evening."),
                 "{a} tells {b} about a {course} course at {place} that starts next {day}."),
            Beat(("a: I signed up for a {course} course.", "b: Really? I have wanted to do that for years!",
                  "a: There are two places left."),
                 "{a} signed up for a {course} course, and {b} is interested."),
        ),
        beats=(
            Beat(("b: Is it expensive?", "a: Not at all, the town pays half of it."),
                 "The town pays half of the price."),
            Beat(("b: Then I will come along.", "a: Wonderful, let us go there together by {vehicle}."),
                 "They will go there together by {vehicle}."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: My {relative} has a birthday on {day}. What could I give?", "b: What about {gift}?",
                  "a: That is a lovely idea."),
                 "{b} suggests {gift} for the birthday of {a}'s {relative} on {day}."),
            Beat(("a: I forgot {gift} for the birthday of my {relative} at {place}.",
                  "b: I pass there at {hour}, I can fetch it."),
                 "{b} will fetch {gift} that {a} forgot at {place}."),
        ),
        beats=(
            Beat(("b: May I sign the card too?", "a: Of course, I will bring it along."),
                 "{b} will sign the card too."),
            Beat(("b: Is there going to be a party?", "a: A small one at {late}, with {dish}.", "b: I will be there."),
                 "There will be a small party at {late} with {dish}."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: My {vehicle} would not start this morning.", "b: Mine is free until {day}, take it.",
                  "a: You are saving my week."),
                 "{b} lends {a} a {vehicle} until {day}."),
            Beat(("a: Somebody took my {vehicle} from in front of {place}!", "b: Did you tell the police?",
                  "a: Yes, at {hour} already."),
                 "{a}'s {vehicle} was stolen in front of {place}, and the police know."),
        ),
        beats=(
            Beat(("b: How will you get to {city}?", "a: By train, it takes only a little longer."),
                 "{a} will take the train to {city}."),
            Beat(("a: I was to be in the office at {hour}.", "b: Call them and say that you come {later}."),
                 "{b} advises {a} to call the office."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: My {plant} do not grow at all this year.", "b: Do they get enough water?",
                  "a: Every evening at {late}.", "b: Then it is the soil."),
                 "{b} thinks that the soil keeps {a}'s {plant} from growing."),
            Beat(("a: I have far too many {plant}. Would you like some?", "b: With pleasure, I will come by on {day}."),
                 "{b} will come by on {day} for some of {a}'s {plant}."),
        ),
        beats=(
            Beat(("a: Should I plant something else?", "b: Try it once more with some compost first."),
                 "{b} advises compost."),
            Beat(("b: My {relative} can give you good advice.", "a: Then let us go to {place} together on {day}."),
                 "They will go to {place} on {day}."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: Do you still play {sport}?", "b: Every {day}, at {hour}. Why?",
                  "a: I would like to start again."),
                 "{b} plays {sport} every {day}, and {a} would like to start again."),
            Beat(("a: We need one more player for {sport} on {day}.", "b: Count me in. Where do you play?",
                  "a: Near {place}."),
                 "{b} will join {a} for {sport} on {day} near {place}."),
        ),
        beats=(
            Beat(("b: I have no shoes that fit.", "a: My {relative} can lend you a pair."),
                 "{a}'s {relative} can lend {b} shoes."),
            Beat(("a: Afterwards we usually eat {dish}.", "b: Then I will surely come."),
                 "Afterwards they eat {dish}."),
        ),
    ),
    Scene(
        openings=(
            Beat(("a: Which colour would you take for the {room}?", "b: I like {colour}.",
                  "a: Good, then I will buy the paint on {day}."),
                 "They choose {colour} for the {room}, and {a} will buy the paint on {day}."),
            Beat(("a: I am painting the {room} on {day}.", "b: In which colour?", "a: In {colour}.",
                  "b: I can help from {hour} on."),
                 "{b} will help {a} paint the {room} {colour} on {day}."),
        ),
        beats=(
            Beat(("b: Do we have a ladder?", "a: No, but my {relative} has one."),
                 "A ladder comes from {a}'s {relative}."),
            Beat(("a: It may take until {late}.", "b: Then I will bring {dish} for all of us."),
                 "{b} will bring {dish}."),
        ),
    ),
)  # fmt: skip
